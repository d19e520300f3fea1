import { openModelFolder, placeLora, readAdapter } from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";

/**
 * Refuses to start from an adapter of another shape than the spec's: the checkpoints would say something else than they hold.
 *
 * @throws InvalidError `adapter_mismatch` naming the field
 */
export async function checkAdapter(
  adapterDirectory: string,
  modelDirectory: string,
  { mode, training: { lora } }: RunSpec,
): Promise<void> {
  const refuse = (message: string): never => {
    throw new InvalidError("adapter_mismatch", `adapter ${adapterDirectory}: ${message}`);
  };
  if (mode === "full") refuse('mode is "full", which trains no adapter: use mode "lora"');
  const adapter = await readAdapter(adapterDirectory);
  if (adapter.rank !== lora.rank)
    refuse(`its rank is ${adapter.rank}, training.lora.rank is ${lora.rank}: make them equal`);
  if (adapter.alpha !== lora.alpha)
    refuse(`its alpha is ${adapter.alpha}, training.lora.alpha is ${lora.alpha}: make them equal`);
  const { modules } = placeLora((await openModelFolder(modelDirectory)).model, lora);
  const missing = [...modules].find((path) => !adapter.placement.modules.has(path));
  const extra = [...adapter.placement.modules].find((path) => !modules.has(path));
  if (missing !== undefined) refuse(`it does not adapt ${missing}, which training.lora.targets asks for`);
  if (extra !== undefined) refuse(`it adapts ${extra}, which training.lora.targets does not name`);
}
