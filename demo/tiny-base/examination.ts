import { collate, type EngineTrainer } from "@drydock/engine";
import { answerBox, askBox, askName } from "../artwork/questions.ts";
import { createRandom } from "../artwork/random.ts";
import { composeScene, type PixelBox } from "../artwork/scene.ts";
import type { Classroom } from "./classroom.ts";
import { pickSubjects, type DrawnConcept } from "./pictures.ts";

/** Shares of right answers, per cent. */
export interface Marks {
  /** Names given exactly. */
  readonly names: number;
  /** Boxes that overlap the right one by half or more (IoU ≥ 0.5). */
  readonly boxes: number;
}

const scenes = 96;
/** Things in a scene, by how often. */
const objectCounts = [1, 2, 3, 3, 4];
const batchSize = 48;

/** Asks for one name and one box in each of 96 new scenes. The same scenes for the same seed. */
export async function examine(
  trainer: EngineTrainer,
  classroom: Classroom,
  concepts: readonly DrawnConcept[],
  seed: number,
): Promise<Marks> {
  const random = createRandom(seed);
  const questions = Array.from({ length: scenes }, () => {
    const scene = composeScene(pickSubjects(concepts, random.pick(objectCounts), random), random);
    return { scene, object: random.pick(scene.objects) };
  });
  const ask = async (textOf: (question: (typeof questions)[number]) => string): Promise<string[]> => {
    const generator = await trainer.generator();
    const answers: string[] = [];
    for (let start = 0; start < questions.length; start += batchSize) {
      const rows = questions
        .slice(start, start + batchSize)
        .map((question) => classroom.encode([{ role: "user", content: textOf(question) }], question.scene, true));
      const ids = await generator.answers(collate(rows, trainer.model), {
        maxNewTokens: 20,
        stopTokenIds: classroom.stopTokenIds,
      });
      answers.push(...ids.map((row) => classroom.decode(row)));
    }
    return answers;
  };
  const names = await ask(({ object }) => askName(object));
  const boxes = await ask(({ object }) => askBox(object));
  const share = (isRight: (index: number) => boolean): number =>
    (100 * questions.filter((_, index) => isRight(index)).length) / questions.length;
  return {
    names: share((index) => names[index] === questions[index]!.object.name),
    boxes: share(
      (index) =>
        overlap(numbersOf(boxes[index]!), numbersOf(answerBox(questions[index]!.scene, questions[index]!.object))) >=
        0.5,
    ),
  };
}

function numbersOf(answer: string): PixelBox | null {
  const match = /\[(\d+), (\d+), (\d+), (\d+)\]/.exec(answer);
  return match === null ? null : [Number(match[1]), Number(match[2]), Number(match[3]), Number(match[4])];
}

/** Intersection over union; 0 when one is missing. */
function overlap(a: PixelBox | null, b: PixelBox | null): number {
  if (a === null || b === null) return 0;
  const area = ([left, top, right, bottom]: PixelBox): number => Math.max(0, right - left) * Math.max(0, bottom - top);
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}
