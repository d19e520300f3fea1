import { readFileSync, writeFileSync } from "node:fs";
import { memoryTable, tableMarkers } from "../test/published-memory/table.ts";

/*
 * Prints predicted against measured memory as a Markdown table. With --write it replaces the table in
 * docs/decisions/0003-memory-model.md. Usage: node packages/spec/scripts/memory-table.ts [--write]
 */
const table = memoryTable();
if (process.argv.includes("--write")) {
  const page = new URL("../../../docs/decisions/0003-memory-model.md", import.meta.url);
  const text = readFileSync(page, "utf8");
  const start = text.indexOf(tableMarkers.start) + tableMarkers.start.length;
  const end = text.indexOf(tableMarkers.end);
  writeFileSync(page, `${text.slice(0, start)}\n\n${table}\n\n${text.slice(end)}`);
} else process.stdout.write(`${table}\n`);
