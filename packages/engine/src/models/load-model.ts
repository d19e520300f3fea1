import { readAdapter } from "../adapters/lora.ts";
import type { DeviceSettings } from "../device/device.ts";
import { openDevicePasses } from "../device/device-passes.ts";
import { HostPasses } from "../generation/host-passes.ts";
import { AnswerGenerator } from "../generation/answer-generator.ts";
import type { QuantizationSettings } from "../quantization/quantized-weights.ts";
import { openModelFolder, type ModelFolder } from "../weights/model-folder.ts";
import { toShared } from "../runtime/shared-floats.ts";
import { InvalidError } from "@drydock/kit";

export interface LoadedModel {
  readonly folder: ModelFolder;
  readonly generator: AnswerGenerator;
}

/** Opens a model folder for answering, with a PEFT adapter when one is given. @throws InvalidError naming file and fault */
export async function loadModel(options: {
  readonly directory: string;
  readonly adapterDirectory?: string;
  readonly threads: number;
  /** Quantizes the decoder's linear layers as they are read. */
  readonly quantize?: QuantizationSettings;
  /** Where it answers; absent = on the CPU, with arrays of the host. */
  readonly device?: DeviceSettings;
}): Promise<LoadedModel> {
  const folder = await openModelFolder(options.directory, options);
  const adapter = options.adapterDirectory === undefined ? null : await readAdapter(options.adapterDirectory);
  const live = new Map<string, { data: Float32Array; shape: readonly number[] }>();
  if (adapter) {
    const { variables } = folder.model.forward({ hasImages: true, lora: adapter.placement });
    for (const [name, node] of variables.trained) {
      const data = adapter.tensors.get(name);
      const shape = node.shape.map(Number);
      if (!data || data.length !== shape.reduce((size, side) => size * side, 1))
        throw new InvalidError(
          "adapter_mismatch",
          `adapter ${options.adapterDirectory} does not fit model ${options.directory}: ${name} should be [${shape.join(", ")}]`,
        );
      live.set(name, { data: toShared(data), shape });
    }
    const unused = [...adapter.tensors.keys()].find((name) => !live.has(name));
    if (unused !== undefined)
      throw new InvalidError(
        "adapter_mismatch",
        `adapter ${options.adapterDirectory} holds ${unused}, a layer that model ${options.directory} does not have`,
      );
  }
  const lora = adapter?.placement ?? null;
  const passes = options.device
    ? await openDevicePasses({ device: options.device, folder, lora, live })
    : new HostPasses({ threads: options.threads, folder, lora, live });
  return { folder, generator: new AnswerGenerator(passes) };
}
