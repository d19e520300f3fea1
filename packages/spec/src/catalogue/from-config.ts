import { InvalidError } from "@drydock/kit";
import type { Architecture, TextDecoder } from "./architecture.ts";
import type { BoxConvention, ModelFacts } from "./model-facts.ts";
import { qwen25PixelBounds, qwen25Vision, qwen3PixelBounds, qwen3Vision } from "./qwen-vision.ts";

/** Files of a Hugging Face model folder, parsed: `config.json` and, where there is one, `preprocessor_config.json`. */
export interface ModelFolderConfig {
  readonly config: unknown;
  readonly preprocessor?: unknown;
}

/**
 * Facts of a model that is not in the catalogue, from its own `config.json`.
 *
 * Accepts `model_type` qwen3_vl, qwen3_5, qwen2_5_vl (text keys nested or at the top level) and internvl.
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
  const { family, boxConvention, architecture } = reader(
    root,
    new ConfigReader(folder.preprocessor ?? {}, "preprocessor_config.json"),
  );
  return {
    name,
    title: name,
    family,
    repository: null,
    license: root.optionalText("license") ?? "see the model's own folder",
    contextWindow: root.nested("text_config", { orSelf: true }).optionalNumber("max_position_embeddings") ?? 32_768,
    modes: ["lora", "full"],
    modeRefusal: null,
    boxConvention,
    architecture,
    provenance: { level: "published-config", note: "Read from the model's own config.json." },
  };
}

interface Reading {
  readonly family: ModelFacts["family"];
  readonly boxConvention: BoxConvention;
  readonly architecture: Architecture;
}

const readers: Record<string, (config: ConfigReader, preprocessor: ConfigReader) => Reading> = {
  qwen3_vl: (config, preprocessor) => readQwen3(config, preprocessor, "qwen3-vl"),
  qwen3_5: (config, preprocessor) => readQwen3(config, preprocessor, "qwen3.5"),
  qwen2_5_vl: readQwen25,
  internvl: readInternVl,
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

function readInternVl(config: ConfigReader): Reading {
  const vision = config.nested("vision_config");
  const hidden = vision.number("hidden_size");
  const side = vision.numberOrFirst("image_size");
  const patch = vision.numberOrFirst("patch_size");
  const patches = (side / patch) ** 2;
  const text = readDecoder(config, { queryKeyValueBias: false, queryKeyNorm: true, isHybrid: false });
  const shrink = Math.round(1 / config.number("downsample_ratio")) ** 2;
  return {
    family: "internvl3.5",
    boxConvention: "internvl-ref-box",
    architecture: {
      text,
      vision: {
        hiddenSize: hidden,
        layers: vision.number("num_hidden_layers"),
        heads: vision.number("num_attention_heads"),
        intermediateSize: vision.number("intermediate_size"),
        gatedMlp: false,
        norm: "layer",
        patchValues: 3 * patch ** 2,
        patchBias: true,
        positionRows: patches + 1,
        classToken: true,
        layerScale: true,
        finalNorm: false,
        patchesPerToken: shrink,
      },
      bridge: {
        blocks: [
          {
            normParameters: 2 * hidden * shrink,
            linears: [
              [hidden * shrink, text.hiddenSize],
              [text.hiddenSize, text.hiddenSize],
            ],
          },
        ],
      },
      visualTokens: {
        kind: "tiles",
        tileSize: side,
        patchSize: patch,
        tokensPerTile: patches / shrink,
        extraTokensPerTile: 0,
        minTiles: 1,
        maxTiles: 12,
        delimiterTokens: 2,
      },
    },
  };
}

function readDecoder(
  config: ConfigReader,
  family: { queryKeyValueBias: boolean; queryKeyNorm: boolean; isHybrid: boolean },
): TextDecoder {
  const text = config.nested("text_config", { orSelf: true });
  const hiddenSize = text.number("hidden_size");
  const heads = text.number("num_attention_heads");
  return {
    hiddenSize,
    heads,
    layers: text.number("num_hidden_layers"),
    keyValueHeads: text.number("num_key_value_heads"),
    headSize: text.optionalNumber("head_dim") ?? hiddenSize / heads,
    intermediateSize: text.number("intermediate_size"),
    vocabularySize: text.number("vocab_size"),
    tiedEmbeddings:
      config.optionalBoolean("tie_word_embeddings") ?? text.optionalBoolean("tie_word_embeddings") ?? false,
    queryKeyValueBias: family.queryKeyValueBias,
    queryKeyNorm: family.queryKeyNorm,
    outputGate: family.isHybrid,
    linearAttention: !family.isHybrid
      ? null
      : {
          fullAttentionInterval: text.optionalNumber("full_attention_interval") ?? 4,
          keyHeads: text.number("linear_num_key_heads"),
          keyHeadSize: text.number("linear_key_head_dim"),
          valueHeads: text.number("linear_num_value_heads"),
          valueHeadSize: text.number("linear_value_head_dim"),
          convolutionKernel: text.number("linear_conv_kernel_dim"),
        },
  };
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

/** Reads fields of parsed JSON and names the file and field when one is missing or has another type. */
class ConfigReader {
  readonly #fields: Record<string, unknown>;
  readonly #place: string;

  constructor(json: unknown, place: string) {
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw badConfig(place, "must be a JSON object");
    this.#fields = json as Record<string, unknown>;
    this.#place = place;
  }

  nested(field: string, options: { orSelf?: boolean } = {}): ConfigReader {
    const value = this.#fields[field];
    if ((value === undefined || value === null) && options.orSelf === true) return this;
    return new ConfigReader(value, `${this.#place}: ${field}`);
  }

  number(field: string): number {
    const value = this.optionalNumber(field);
    if (value === undefined) throw badConfig(this.#place, `has no number "${field}"`);
    return value;
  }

  /** A number, or the first of a list of numbers (`image_size: [448, 448]`). */
  numberOrFirst(field: string): number {
    const value = this.#fields[field];
    const first: unknown = Array.isArray(value) ? value[0] : value;
    if (typeof first !== "number") throw badConfig(this.#place, `has no number "${field}"`);
    return first;
  }

  optionalNumber(field: string): number | undefined {
    const value = this.#fields[field];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      throw badConfig(this.#place, `"${field}" is ${JSON.stringify(value)}, not a positive number`);
    return value;
  }

  optionalBoolean(field: string): boolean | undefined {
    const value = this.#fields[field];
    return typeof value === "boolean" ? value : undefined;
  }

  optionalText(field: string): string | undefined {
    const value = this.#fields[field];
    return typeof value === "string" ? value : undefined;
  }

  text(field: string): string {
    const value = this.optionalText(field);
    if (value === undefined) throw badConfig(this.#place, `has no text "${field}"`);
    return value;
  }

  list(field: string): readonly unknown[] {
    const value = this.#fields[field];
    if (!Array.isArray(value)) throw badConfig(this.#place, `has no list "${field}"`);
    return value;
  }
}

function badConfig(place: string, problem: string): InvalidError {
  const message = `${place} ${problem}. Use the folder as it was downloaded or saved, or repair the file.`;
  return new InvalidError("bad_model_config", message, {
    details: [{ path: "model", code: "bad_model_config", message }],
  });
}
