import { openModelFolder, placeLora, readAdapter } from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";
import { refuseOtherBase } from "../publish/check-base.ts";

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
  await refuseOtherBase(adapterDirectory, modelDirectory);
  const { model } = await openModelFolder(modelDirectory);
  const adapter = await readAdapter(adapterDirectory, model);
  if (adapter.rank !== lora.rank)
    refuse(`its rank is ${adapter.rank}, training.lora.rank is ${lora.rank}: make them equal`);
  if (adapter.alpha !== lora.alpha)
    refuse(`its alpha is ${adapter.alpha}, training.lora.alpha is ${lora.alpha}: make them equal`);
  const wanted = placeLora(model, lora);
  if (adapter.placement.usesDora !== wanted.usesDora)
    refuse(
      `its use_dora is ${adapter.placement.usesDora}, training.lora.useDora is ${wanted.usesDora}: make them equal`,
    );
  for (const [path, { rank, scale }] of wanted.modules) {
    const own = adapter.placement.modules.get(path);
    if (!own) return refuse(`it does not adapt ${path}, which training.lora.targets asks for`);
    if (own.rank !== rank || own.scale !== scale)
      refuse(`${path} has rank ${own.rank} and scale ${own.scale} there, training.lora asks for ${rank} and ${scale}`);
  }
  const extra = [...adapter.placement.modules.keys()].find((path) => !wanted.modules.has(path));
  if (extra !== undefined) refuse(`it adapts ${extra}, which training.lora.targets does not name`);
  const other = [...wanted.whole].find((name) => !adapter.placement.whole.has(name));
  if (other !== undefined) refuse(`it does not hold ${other}, which training.lora.bias or modulesToSave asks for`);
}
