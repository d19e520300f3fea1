#!/usr/bin/env bash
# Makes tokens.txt again: what the reference's tokeniser (the Java program that pycocoevalcap runs) says of captions.txt.
# Needs Java and Maven.
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mvn -q dependency:copy -Dartifact=edu.stanford.nlp:stanford-corenlp:3.4.1 -DoutputDirectory="$folder"
java -cp "$folder/stanford-corenlp-3.4.1.jar" edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase captions.txt 2>/dev/null > tokens.txt
