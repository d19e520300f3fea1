import { answerBox, askBox, askName } from "../artwork/questions.ts";
import type { Random } from "../artwork/random.ts";
import type { Scene } from "../artwork/scene.ts";

/** One turn of a conversation about a picture. The picture belongs to the first user turn. */
export interface Turn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** System prompts that the base model learns to work under: mostly none or a short one, now and then one as long as Drydock's defaults. */
export const systemPrompts: readonly (string | null)[] = [
  ...Array.from({ length: 8 }, () => null),
  ...Array.from({ length: 4 }, () => "You look at small pictures. Answer from the picture only."),
  "You name what small pictures show. Answer with the name or the box, and only with what the picture shows.",
  "You name what small pictures show. Answer with the name or the box, and only with what the picture shows.",
  "You are an assistant that answers questions about pictures. Look at the objects, their number, colours, positions and any text. Answer with a word or a short phrase. Use only what the picture shows; if it cannot be seen, say so.",
  'You are an assistant that locates objects in pictures. Find every instance of each phrase you are given. Answer with a JSON list of {"bbox_2d": [x1, y1, x2, y2], "label": phrase}, coordinates 0 to 1000; [] if there is none. Give boxes only for what the picture shows.',
];

/** What a lesson may draw on. */
export interface LessonPlan {
  /** Names of all concepts that are drawn. */
  readonly names: readonly string[];
  /** All words to be known as text, drawn or not. */
  readonly words: readonly string[];
  readonly system: string | null;
}

/**
 * A conversation about one scene. Each object is asked for once, either by place or by name, so that no answer can be
 * read off an earlier turn. Between them: counting, colours, what is not there, and repeating words, which teaches the
 * whole vocabulary as text without showing what the words mean.
 */
export function makeLesson(scene: Scene, { names, words, system }: LessonPlan, random: Random): Turn[] {
  const exchanges = scene.objects.map((object): [string, string] =>
    random.next() < 0.5 ? [askName(object), object.name] : [askBox(object), answerBox(scene, object)],
  );
  if (random.next() < 0.15) exchanges.push(["How many things are there?", String(scene.objects.length)]);
  if (random.next() < 0.15) exchanges.push(["What colour is the background?", scene.background]);
  if (random.next() < 0.15) exchanges.push(askAbsence(scene, names, random));
  if (random.next() < 0.25) {
    const word = random.pick(words);
    exchanges.push([`Repeat "${word}".`, word]);
  }
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
