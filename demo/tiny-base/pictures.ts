import { readArtwork, trainingArtwork } from "../artwork/artwork-sets.ts";
import { baseConcepts, nameOf } from "../artwork/concepts.ts";
import type { Random } from "../artwork/random.ts";
import type { Subject } from "../artwork/scene.ts";
import { renderDrawing, type Drawing } from "../artwork/sprites.ts";

/** A concept with one drawing a studio. */
export interface DrawnConcept {
  readonly name: string;
  readonly drawings: readonly Drawing[];
}

/** Draws concepts in all sets that training may see. */
export async function drawConcepts(concepts: readonly string[] = baseConcepts): Promise<DrawnConcept[]> {
  const sets = trainingArtwork.map(readArtwork);
  return await Promise.all(
    concepts.map(async (concept) => ({
      name: nameOf(concept),
      drawings: await Promise.all(sets.map((set) => renderDrawing(set.svg(concept)))),
    })),
  );
}

/** So many different concepts, each in the hand of one studio. */
export function pickSubjects(concepts: readonly DrawnConcept[], count: number, random: Random): Subject[] {
  return random
    .shuffle(concepts)
    .slice(0, count)
    .map(({ name, drawings }) => ({ name, drawing: random.pick(drawings) }));
}
