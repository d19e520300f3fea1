import { baseConcepts, domainConcepts, nameOf } from "../artwork/concepts.ts";
import { createRandom } from "../artwork/random.ts";
import { composeScene } from "../artwork/scene.ts";
import { jsonTokens } from "./architecture.ts";
import { makeLesson, systemPrompts } from "./lessons.ts";
import { pickSubjects, type DrawnConcept } from "./pictures.ts";

/** Things in a scene, by how often. */
const objectCounts = [1, 2, 3, 3, 4];
const conversations = 6000;
/** Names of what the demo teaches later: the tokenizer knows them as words, as any tokenizer knows more words than a model has seen things. */
const repetitions = 150;

/** Texts from which the tokenizer learns its vocabulary: what lessons say, without the pieces that are tokens anyway. */
export function tokenizerCorpus(concepts: readonly DrawnConcept[], seed: number): string[] {
  const random = createRandom(seed);
  const names = baseConcepts.map(nameOf);
  const words = [...names, ...domainConcepts.map(nameOf)];
  const lessons = Array.from({ length: conversations }, (_, index) => {
    const scene = composeScene(pickSubjects(concepts, random.pick(objectCounts), random), random);
    // A long system prompt in every lesson would outweigh all that is said in it.
    const system = index % 50 === 0 ? random.pick(systemPrompts) : null;
    return makeLesson(scene, { names, words, system }, random);
  });
  const said = lessons.flatMap((turns) =>
    turns.map(({ content }) => jsonTokens.reduce((text, token) => text.replaceAll(token, " "), content)),
  );
  const headers = Array.from({ length: repetitions }, () => ["user\n", "assistant\n", "system\n"]).flat();
  return [...said, ...headers, ...Array.from({ length: repetitions }, () => words).flat()];
}
