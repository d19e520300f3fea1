import { InvalidError } from "@drydock/kit";
import { baseDigestOf } from "./base-digest.ts";
import { readModelCard } from "./model-card.ts";

/**
 * Refuses an adapter that Drydock trained on another base than the one at hand: it may fit in every shape and answer with nonsense.
 * Adapters from elsewhere say nothing of their base and are taken.
 *
 * @throws InvalidError (`adapter_of_another_base`) naming both
 */
export async function refuseOtherBase(adapterDirectory: string, directory: string): Promise<void> {
  const card = await readModelCard(adapterDirectory);
  const trainedOn = card?.lineage.baseDigest ?? null;
  if (card === null || trainedOn === null) return;
  const digest = await baseDigestOf(directory);
  if (digest === trainedOn) return;
  throw new InvalidError(
    "adapter_of_another_base",
    `adapter ${adapterDirectory} was trained on ${card.lineage.base} (digest ${short(trainedOn)}), but ${directory} holds other weights (digest ${short(digest)}): give the base that it was trained on`,
  );
}

function short(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}
