import { InvalidError } from "@drydock/kit";
import { ConfigReader } from "./config-reader.ts";
import { readDecoder, type Reading } from "./decoder-config.ts";
import { storedFormats, type ModelFacts } from "./model-facts.ts";
import { readMllama } from "./mllama-config.ts";
import { nvilaFlat, nvilaParts, readNvila } from "./nvila-config.ts";
import { readPaliGemma } from "./paligemma-config.ts";
import { qwen25PixelBounds, qwen25Vision, qwen3PixelBounds, qwen3Vision } from "./qwen-vision.ts";
import { nativeInternVl, readInternVl, readLlava, readLlavaNext, remoteInternVl } from "./tiled-config.ts";

/** Files of a Hugging Face model folder, parsed: `config.json` and, where there is one, `preprocessor_config.json`. */
export interface ModelFolderConfig {
  readonly config: unknown;
  readonly preprocessor?: unknown;
}

/**
 * Facts of a model that is not in the catalogue, from its own `config.json`.
 *
 * Accepts `model_type` qwen3_vl, qwen3_5, qwen2_5_vl (text keys nested or at the top level), internvl, internvl_chat, llava,
 * llava_next, paligemma, mllama, and NVILA-Lite's llava_llama, vila and nvila_lite.
 * @param name    what plans and messages call the model
 * @param folder  parsed JSON; sizes are never derived from the name
 * @throws InvalidError `unknown_model_type` or `bad_model_config`, naming the field
 */
export function modelFactsFromConfig(name: string, folder: ModelFolderConfig): ModelFacts {
  const root = new ConfigReader(folder.config, "config.json");
  const type = root.text("model_type");
  const reader = readers[type];
  if (reader === undefined)
    throw new InvalidError(
      "unknown_model_type",
      `config.json of ${name} says model_type "${type}"; Drydock trains ${Object.keys(readers).join(", ")}. Use a model of one of these families.`,
      {
        details: [
          {
            path: "model.uri",
            code: "unknown_model_type",
            message: `model_type "${type}" is not one that Drydock trains`,
          },
        ],
      },
    );
  const { family, boxConvention, contextWindow, loraRefusal, architecture } = reader(
    root,
    new ConfigReader(folder.preprocessor ?? {}, "preprocessor_config.json"),
  );
  return {
    name,
    title: name,
    family,
    repository: null,
    license: root.optionalText("license") ?? "see the model's own folder",
    contextWindow:
      contextWindow ?? root.nested("text_config", { orSelf: true }).optionalNumber("max_position_embeddings") ?? 32_768,
    modes: loraRefusal === undefined ? ["lora", "full"] : ["full"],
    modeRefusal: loraRefusal ?? null,
    boxConvention,
    architecture,
    ...storedFormat(name, root),
    provenance: { level: "published-config", note: "Read from the model's own config.json." },
  };
}

/** What `quantization_config` says. @throws InvalidError `unknown_quantization` for what the worker does not read */
function storedFormat(name: string, root: ConfigReader): Pick<ModelFacts, "storedIn"> {
  const config = root.nestedWith("quantization_config", (section) => section ?? {});
  const method = config.optionalText("quant_method");
  if (method === undefined) return {};
  const text =
    method === "drydock"
      ? config.optionalText("format")
      : method === "bitsandbytes"
        ? config.optionalText("bnb_4bit_quant_type")
        : undefined;
  const storedIn = storedFormats.find((format) => format === text);
  if (storedIn) return { storedIn };
  const message = `quantization "${method}${text === undefined ? "" : `, ${text}`}" is not one that Drydock reads`;
  throw new InvalidError(
    "unknown_quantization",
    `config.json of ${name}: ${message}; it reads bitsandbytes of 4 bits and its own ${storedFormats.join(", ")}. Use the model's own weights with training.baseWeights "nf4" or "int8".`,
    { details: [{ path: "model.uri", code: "unknown_quantization", message }] },
  );
}

const readers: Record<string, (config: ConfigReader, preprocessor: ConfigReader) => Reading> = {
  qwen3_vl: (config, preprocessor) => readQwen3(config, preprocessor, "qwen3-vl"),
  qwen3_5: (config, preprocessor) => readQwen3(config, preprocessor, "qwen3.5"),
  qwen2_5_vl: readQwen25,
  internvl: (config, preprocessor) => readInternVl(config, preprocessor, nativeInternVl),
  internvl_chat: (config, preprocessor) => readInternVl(config, preprocessor, remoteInternVl),
  llava: (config) => readLlava(config, null),
  llava_next: readLlavaNext,
  paligemma: readPaliGemma,
  mllama: readMllama,
  llava_llama: (config) => readNvila(config, nvilaParts),
  vila: (config) => readNvila(config, nvilaParts),
  nvila_lite: (config) => readNvila(config, nvilaFlat),
};

function readQwen3(config: ConfigReader, preprocessor: ConfigReader, family: "qwen3-vl" | "qwen3.5"): Reading {
  const vision = config.nested("vision_config");
  const eyes = qwen3Vision(
    {
      hiddenSize: vision.number("hidden_size"),
      layers: vision.number("depth"),
      heads: vision.number("num_heads"),
      intermediateSize: vision.number("intermediate_size"),
      outputSize: vision.number("out_hidden_size"),
      patchSize: vision.number("patch_size"),
      mergeSize: vision.number("spatial_merge_size"),
      positionRows: vision.number("num_position_embeddings"),
      deepstackMergers: family === "qwen3-vl" ? vision.list("deepstack_visual_indexes").length : 0,
    },
    pixelBounds(preprocessor, qwen3PixelBounds),
  );
  const text = readDecoder(config, { queryKeyValueBias: false, queryKeyNorm: true, isHybrid: family === "qwen3.5" });
  return { family, boxConvention: "json-relative-1000", architecture: { text, ...eyes } };
}

function readQwen25(config: ConfigReader, preprocessor: ConfigReader): Reading {
  const vision = config.nested("vision_config");
  const eyes = qwen25Vision(
    {
      hiddenSize: vision.number("hidden_size"),
      layers: vision.number("depth"),
      heads: vision.number("num_heads"),
      intermediateSize: vision.number("intermediate_size"),
      outputSize: vision.number("out_hidden_size"),
      patchSize: vision.number("patch_size"),
      mergeSize: vision.number("spatial_merge_size"),
    },
    pixelBounds(preprocessor, qwen25PixelBounds),
  );
  const text = readDecoder(config, { queryKeyValueBias: true, queryKeyNorm: false, isHybrid: false });
  return { family: "qwen2.5-vl", boxConvention: "json-resized-pixels", architecture: { text, ...eyes } };
}

/** Explicit pixel keys win over `size.shortest_edge` / `longest_edge`, which are pixel counts in spite of their names. */
function pixelBounds(
  preprocessor: ConfigReader,
  published: { minPixels: number; maxPixels: number },
): { minPixels: number; maxPixels: number } {
  const size = preprocessor.nested("size", { orSelf: true });
  return {
    minPixels: preprocessor.optionalNumber("min_pixels") ?? size.optionalNumber("shortest_edge") ?? published.minPixels,
    maxPixels: preprocessor.optionalNumber("max_pixels") ?? size.optionalNumber("longest_edge") ?? published.maxPixels,
  };
}
