/*
 * The demo's data: food that the tiny base model has never seen, drawn by four studios. Three of them make the training
 * pictures; the fourth makes every validation picture, so that a good score means recognising food in a hand never seen.
 *
 *   node demo/pantry/make-pantry.ts [DIR]     (the demo calls makePantry itself)
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { nameOf, domainConcepts } from "../artwork/concepts.ts";
import { heldOutArtwork, readArtwork, trainingArtwork, type ArtworkSet } from "../artwork/artwork-sets.ts";
import { askName } from "../artwork/questions.ts";
import { createRandom, type Random } from "../artwork/random.ts";
import { composeScene, type Scene, type SceneObject } from "../artwork/scene.ts";
import { renderDrawing } from "../artwork/sprites.ts";
import { pickSubjects, type DrawnConcept } from "../tiny-base/pictures.ts";
import { writePicture } from "./write-picture.ts";

export interface PantryOptions {
  readonly trainingScenes: number;
  readonly validationScenes: number;
  readonly seed: number;
}

export const defaultPantry: PantryOptions = { trainingScenes: 1200, validationScenes: 120, seed: 7 };

/** Two data sets: `pantry` is trained on and validated by names; `pantry-boxes` only validates, by boxes, on the same pictures. */
export interface Pantry {
  readonly namesDirectory: string;
  readonly boxesDirectory: string;
  readonly trainingRows: number;
  readonly validationRows: number;
}

/** How many drawings stand in a scene, by how often. */
const objectCounts = [1, 1, 1, 2, 2, 3];

/** The question of a grounding row; `{phrases}` is replaced at import. */
export const pantryGroundingPrompt = 'Find "{phrases}".';

interface MadeScene {
  readonly file: string;
  readonly scene: Scene;
  readonly object: SceneObject;
  readonly other: SceneObject;
}

/** Writes both data sets as Vi JSONL with PNG pictures. The same options give the same bytes. */
export async function makePantry(directory: string, options: PantryOptions = defaultPantry): Promise<Pantry> {
  await rm(directory, { recursive: true, force: true });
  const random = createRandom(options.seed);
  const [namesDirectory, boxesDirectory] = [join(directory, "pantry"), join(directory, "pantry-boxes")];
  const train = await makeScenes(
    join(namesDirectory, "train"),
    await drawFood(trainingArtwork),
    options.trainingScenes,
    random,
  );
  const food = await drawFood([heldOutArtwork]);
  const validationRandom = createRandom(options.seed + 1);
  const validation = await makeScenes(join(namesDirectory, "valid"), food, options.validationScenes, validationRandom);
  await Promise.all(
    validation.map(async ({ file, scene }) => await writePicture(join(boxesDirectory, "valid", file), scene)),
  );
  await writeRows(
    join(namesDirectory, "train", "rows.jsonl"),
    train.flatMap((made) => [nameRow(made), boxRow(made)]),
  );
  await writeRows(join(boxesDirectory, "valid", "rows.jsonl"), validation.map(boxRow));
  await writeRows(join(namesDirectory, "valid", "rows.jsonl"), validation.map(nameRow));
  return { namesDirectory, boxesDirectory, trainingRows: 2 * train.length, validationRows: 2 * validation.length };
}

async function drawFood(sets: readonly ArtworkSet[]): Promise<DrawnConcept[]> {
  const drawings = sets.map(readArtwork);
  return await Promise.all(
    domainConcepts.map(async (concept) => ({
      name: nameOf(concept),
      drawings: await Promise.all(drawings.map((set) => renderDrawing(set.svg(concept)))),
    })),
  );
}

async function makeScenes(
  directory: string,
  food: readonly DrawnConcept[],
  count: number,
  random: Random,
): Promise<MadeScene[]> {
  await mkdir(directory, { recursive: true });
  const made = Array.from({ length: count }, (_, index): MadeScene => {
    const scene = composeScene(pickSubjects(food, random.pick(objectCounts), random), random);
    return {
      file: `scene-${String(index + 1).padStart(4, "0")}.png`,
      scene,
      object: random.pick(scene.objects),
      other: random.pick(scene.objects),
    };
  });
  await Promise.all(made.map(async ({ file, scene }) => await writePicture(join(directory, file), scene)));
  return made;
}

function assetOf({ file, scene: { width, height } }: MadeScene): object {
  return { type: "Image", filename: file, width, height };
}

function nameRow(made: MadeScene): object {
  const interactions = [{ order: 1, question: askName(made.object), answer: made.object.name }];
  return { asset: assetOf(made), contents: { type: "Vqa", interactions } };
}

function boxRow(made: MadeScene): object {
  const { scene, other } = made;
  const [left, top, right, bottom] = [
    other.box[0] / scene.width,
    other.box[1] / scene.height,
    other.box[2] / scene.width,
    other.box[3] / scene.height,
  ];
  const bounds = [
    [
      [left, top],
      [right, top],
      [right, bottom],
      [left, bottom],
    ],
  ];
  return {
    asset: assetOf(made),
    contents: {
      type: "PhraseGrounding",
      caption: other.name,
      groundedPhrases: [{ phrase: other.name, startTokenIndex: 0, endTokenIndex: 1, bounds }],
    },
  };
}

async function writeRows(path: string, rows: readonly object[]): Promise<void> {
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
}

if (import.meta.main) {
  const directory = process.argv[2] ?? ".drydock/pantry";
  const { trainingRows, validationRows } = await makePantry(directory);
  console.log(`${trainingRows} training rows and ${validationRows} validation rows in ${directory}`);
}
