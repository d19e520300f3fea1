import {
  loadImageProcessor,
  type ImageProcessor,
  type Model,
  ConversationEncoder,
  partsOf,
  TextTokenizer,
  type EncodedRow,
  type ProcessedImage,
} from "@drydock/engine";
import { domainConcepts, nameOf } from "../artwork/concepts.ts";
import type { Random } from "../artwork/random.ts";
import { composeScene, stampSize, type Scene } from "../artwork/scene.ts";
import { makeLesson, systemPrompts, type Turn } from "./lessons.ts";
import { pickSubjects, type DrawnConcept } from "./pictures.ts";

/**
 * What a step of pre-training is about. `cards`: one drawing, its name, nothing else: the image tower learns to see.
 * `labels`: scenes, the place and the name of each drawing: the text decoder learns to look where it is told.
 * `lessons`: conversations about scenes, questions and answers as people use them, with labels between them.
 */
export type SubjectMatter = "cards" | "labels" | "lessons";

/** Share of labels among lessons: names are a small part of what conversations say, and the hardest. */
const labelShare = 0.6;

/** How many things stand in a scene, by how often. */
export interface ObjectCounts {
  readonly labels: readonly number[];
  readonly lessons: readonly number[];
}

/** Makes the rows of each step out of nothing but the seed. */
export class Classroom {
  readonly #concepts: readonly DrawnConcept[];
  readonly #tokenizer: TextTokenizer;
  readonly #encoder: ConversationEncoder;
  readonly #images: ImageProcessor;
  readonly #names: readonly string[];
  readonly #words: readonly string[];
  readonly #model: Model;

  private constructor(
    concepts: readonly DrawnConcept[],
    tokenizer: TextTokenizer,
    images: ImageProcessor,
    model: Model,
  ) {
    this.#concepts = concepts;
    this.#tokenizer = tokenizer;
    this.#images = images;
    this.#model = model;
    this.#encoder = new ConversationEncoder(tokenizer, model);
    this.#names = concepts.map(({ name }) => name);
    this.#words = [...this.#names, ...domainConcepts.map(nameOf)];
  }

  static async open(directory: string, model: Model, concepts: readonly DrawnConcept[]): Promise<Classroom> {
    // Cards are smaller than any picture that the model is otherwise shown.
    const images = await loadImageProcessor(model, directory, { minPixels: stampSize ** 2 });
    return new Classroom(concepts, await TextTokenizer.load(directory), images, model);
  }

  /** The rows of one step, short ones first, so that micro-batches need little padding. */
  rows(matter: SubjectMatter, count: number, objects: ObjectCounts, random: Random): EncodedRow[] {
    const system = random.pick(systemPrompts);
    const lesson = (index: number): EncodedRow =>
      index < count * labelShare ? this.#label(objects.labels, random) : this.#lesson(objects.lessons, system, random);
    const makers = {
      cards: () => this.#card(random),
      labels: () => this.#label(objects.labels, random),
      lessons: lesson,
    };
    const rows = Array.from({ length: count }, (_, index) => makers[matter](index));
    return rows.toSorted((a, b) => a.inputIds.length - b.inputIds.length);
  }

  /** A picture, its name. */
  #card(random: Random): EncodedRow {
    const scene = composeScene(pickSubjects(this.#concepts, 1, random), random, stampSize);
    return this.#labelled(scene, [["", scene.objects[0]!.name]]);
  }

  /** A picture, then place and name of each thing in it. */
  #label(counts: readonly number[], random: Random): EncodedRow {
    const scene = composeScene(pickSubjects(this.#concepts, random.pick(counts), random), random);
    return this.#labelled(
      scene,
      random.shuffle(scene.objects).map(({ place, name }) => [place, name]),
    );
  }

  /** `<|vision_start|>` picture `<|vision_end|>`, then given text and wanted text in turns; no chat around, so that there is little to attend to but the picture. */
  #labelled(scene: Scene, pairs: readonly (readonly [given: string, wanted: string])[]): EncodedRow {
    const image = this.#process(scene);
    const inputIds = [
      this.#tokenizer.idOf("<|vision_start|>"),
      ...Array.from({ length: image.tokens }, () => this.#model.imageTokenId),
      this.#tokenizer.idOf("<|vision_end|>"),
    ];
    const targets = inputIds.map(() => -100);
    for (const [given, wanted] of pairs) {
      const before = this.#tokenizer.encode(given);
      const after = [...this.#tokenizer.encode(wanted), this.#tokenizer.idOf("<|im_end|>")];
      inputIds.push(...before, ...after);
      targets.push(...before.map(() => -100), ...after);
    }
    return {
      name: "card",
      inputIds,
      labels: [...targets.slice(1), -100],
      images: [image],
      imagePositions: [Array.from({ length: image.tokens }, (_, token) => 1 + token)],
    };
  }

  #lesson(counts: readonly number[], system: string | null, random: Random): EncodedRow {
    const scene = composeScene(pickSubjects(this.#concepts, random.pick(counts), random), random);
    return this.encode(makeLesson(scene, { names: this.#names, words: this.#words, system }, random), scene);
  }

  /** A conversation about one scene; the picture goes before the first question. */
  encode(turns: readonly Turn[], scene: Scene, forAnswer = false): EncodedRow {
    const first = turns.findIndex(({ role }) => role === "user");
    const messages = turns.map(({ role, content }, index) => ({
      role,
      content: partsOf(index === first ? `<image>${content}` : content),
    }));
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
