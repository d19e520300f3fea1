import { ConversationEncoder, ImageProcessor, partsOf, TextTokenizer, type EncodedRow, type ProcessedImage } from "@drydock/engine";
import { domainConcepts, nameOf } from "../artwork/concepts.ts";
import type { Random } from "../artwork/random.ts";
import { composeScene, stampSize, type Scene } from "../artwork/scene.ts";
import { makeLesson, systemPrompts, type Turn } from "./lessons.ts";
import { pickSubjects, type DrawnConcept } from "./pictures.ts";

/**
 * What a step of pre-training is about. `cards`: one drawing, its name, nothing else: the image tower learns to see.
 * `lessons`: conversations about scenes of one to four drawings.
 */
export type SubjectMatter = "cards" | "lessons";

/** Objects in a scene, by how often. */
export const objectCounts: readonly number[] = [1, 2, 3, 3, 4];

/** Makes the rows of each step out of nothing but the seed. */
export class Classroom {
  readonly #concepts: readonly DrawnConcept[];
  readonly #tokenizer: TextTokenizer;
  readonly #encoder: ConversationEncoder;
  readonly #images: ImageProcessor;
  readonly #names: readonly string[];
  readonly #words: readonly string[];
  readonly #imageTokenId: number;

  private constructor(concepts: readonly DrawnConcept[], tokenizer: TextTokenizer, images: ImageProcessor, imageTokenId: number) {
    this.#concepts = concepts;
    this.#tokenizer = tokenizer;
    this.#images = images;
    this.#imageTokenId = imageTokenId;
    this.#encoder = new ConversationEncoder(tokenizer, { imageTokenId, contextWindow: 4096 });
    this.#names = concepts.map(({ name }) => name);
    this.#words = [...this.#names, ...domainConcepts.map(nameOf)];
  }

  static async open(directory: string, imageTokenId: number, concepts: readonly DrawnConcept[]): Promise<Classroom> {
    // Cards are smaller than any picture that the model is otherwise shown.
    const images = await ImageProcessor.load(directory, { minPixels: stampSize ** 2 });
    return new Classroom(concepts, await TextTokenizer.load(directory), images, imageTokenId);
  }

  /** The rows of one step, short ones first, so that micro-batches need little padding. */
  rows(matter: SubjectMatter, count: number, random: Random): EncodedRow[] {
    const system = random.pick(systemPrompts);
    const rows = Array.from({ length: count }, () => (matter === "cards" ? this.#card(random) : this.#lesson(system, random)));
    return rows.toSorted((a, b) => a.inputIds.length - b.inputIds.length);
  }

  /** `<|vision_start|>` picture `<|vision_end|>` name `<|im_end|>`: no words around, so that all there is to attend to is the picture. */
  #card(random: Random): EncodedRow {
    const subjects = pickSubjects(this.#concepts, 1, random);
    const image = this.#process(composeScene(subjects, random, stampSize));
    const before = [this.#tokenizer.idOf("<|vision_start|>"), ...Array.from({ length: image.tokens }, () => this.#imageTokenId)];
    const answer = [...this.#tokenizer.encode(subjects[0]!.name), this.#tokenizer.idOf("<|im_end|>")];
    const inputIds = [...before, this.#tokenizer.idOf("<|vision_end|>"), ...answer];
    return { name: "card", inputIds, labels: [...before.map(() => -100), ...answer, -100], images: [image], imageStarts: [1] };
  }

  #lesson(system: string | null, random: Random): EncodedRow {
    const scene = composeScene(pickSubjects(this.#concepts, random.pick(objectCounts), random), random);
    return this.encode(makeLesson(scene, { names: this.#names, words: this.#words, system }, random), scene);
  }

  /** A conversation about one scene; the picture goes before the first question. */
  encode(turns: readonly Turn[], scene: Scene, forAnswer = false): EncodedRow {
    const first = turns.findIndex(({ role }) => role === "user");
    const messages = turns.map(({ role, content }, index) => ({ role, content: partsOf(index === first ? `<image>${content}` : content) }));
    return this.#encoder.encode("lesson", messages, [this.#process(scene)], { forAnswer });
  }

  #process({ width, height, pixels }: Scene): ProcessedImage {
    return this.#images.processPixels({ width, height, data: pixels }, "scene");
  }

  decode(ids: readonly number[]): string {
    return this.#tokenizer.decode(ids);
  }

  get stopTokenIds(): readonly number[] {
    return this.#encoder.stopTokenIds;
  }
}
