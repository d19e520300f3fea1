import { answerBox, askBox, askName } from "../artwork/questions.ts";
import type { Random } from "../artwork/random.ts";
import type { Scene } from "../artwork/scene.ts";

/** One turn of a conversation about a picture. The picture belongs to the first user turn. */
export interface Turn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

const systemPrompts = [
  null,
  "Answer from the picture only.",
  "You look at small pictures. Answer from the picture only; if it is not there, say none.",
];

/**
 * A conversation about one scene. Each object is asked for once, either by place or by name, so that no answer can be
 * read off an earlier turn. Between them: counting, colours, what is not there, and repeating words, which teaches the
 * whole vocabulary as text without showing what the words mean.
 */
export function makeLesson(scene: Scene, names: readonly string[], words: readonly string[], random: Random): Turn[] {
  const exchanges = scene.objects.map((object): [string, string] =>
    random.next() < 0.5 ? [askName(object), object.name] : [askBox(object), answerBox(scene, object)],
  );
  if (random.next() < 0.25) exchanges.push(["How many things are there?", String(scene.objects.length)]);
  if (random.next() < 0.2) exchanges.push(["What colour is the background?", scene.background]);
  if (random.next() < 0.25) exchanges.push(askAbsence(scene, names, random));
  if (random.next() < 0.35) {
    const word = random.pick(words);
    exchanges.push([`Repeat "${word}".`, word]);
  }
  const system = random.pick(systemPrompts);
  const turns = random.shuffle(exchanges).flatMap(([question, answer]): Turn[] => [
    { role: "user", content: question },
    { role: "assistant", content: answer },
  ]);
  return system === null ? turns : [{ role: "system", content: system }, ...turns];
}

function askAbsence(scene: Scene, names: readonly string[], random: Random): [string, string] {
  const present = new Set(scene.objects.map(({ name }) => name));
  const name = random.pick(names.filter((other) => !present.has(other)));
  return random.next() < 0.5 ? [`Is there a "${name}"?`, "no"] : [`Find "${name}".`, "[]"];
}
