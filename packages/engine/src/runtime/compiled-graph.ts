import "./no-telemetry.ts";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { InvalidError } from "@drydock/kit";
import { encodeOnnx, type WeightLocation } from "../graph/onnx.ts";
import { evaluate } from "../graph/shape.ts";
import type { Node } from "../graph/ops.ts";
import type { Feeds, FeedTensor, Symbols } from "../models/qwen3-vl/inputs.ts";

export interface CompileOptions {
  readonly threads: number;
  /** Frozen weights, read in place from files of `weightsDirectory`. */
  readonly weights?: ReadonlyMap<string, WeightLocation>;
  readonly weightsDirectory?: string;
}

/** A graph with its ONNX Runtime session. One session serves all sizes of its symbols. */
export class CompiledGraph {
  readonly #session: InferenceSession;
  readonly #outputs: Readonly<Record<string, Node>>;
  readonly #inputNames: ReadonlySet<string>;
  readonly #dimensions: readonly { readonly name: string; readonly dimension: string }[];

  private constructor(
    session: InferenceSession,
    outputs: Readonly<Record<string, Node>>,
    inputNames: ReadonlySet<string>,
    dimensions: readonly { readonly name: string; readonly dimension: string }[],
  ) {
    this.#session = session;
    this.#outputs = outputs;
    this.#inputNames = inputNames;
    this.#dimensions = dimensions;
  }

  static async compile(outputs: Readonly<Record<string, Node>>, options: CompileOptions): Promise<CompiledGraph> {
    const encoded = encodeOnnx(outputs, options.weights);
    const session = await InferenceSession.create(encoded.model, {
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: "all",
      executionMode: "sequential",
      logSeverityLevel: 3,
      extra: {
        session: {
          // Threads that spin while they wait take the cores from everything else: with two runs on two cores, steps took
          // two to three times as long (docs/log/2026-11-23-thread-spinning.md).
          "intra_op.allow_spinning": "0",
          ...(options.weightsDirectory
            ? { model_external_initializers_file_folder_path: options.weightsDirectory }
            : {}),
        },
      },
    });
    return new CompiledGraph(session, outputs, new Set(encoded.inputNames), encoded.dimensionInputs);
  }

  /** Names of the inputs that `run` must be given, sizes left out. */
  get inputNames(): ReadonlySet<string> {
    return this.#inputNames;
  }

  /**
   * @param feeds    values by input name; names that the graph does not have are ignored
   * @param symbols  sizes of the symbols
   * @param into     arrays that outputs are written into
   */
  async run(
    feeds: Feeds,
    symbols: Symbols,
    into: Readonly<Record<string, Float32Array>> = {},
  ): Promise<Record<string, Float32Array>> {
    const given: Record<string, Tensor> = {};
    for (const name of this.#inputNames) {
      const feed = feeds[name];
      if (feed) given[name] = toTensor(feed);
    }
    for (const { name, dimension } of this.#dimensions)
      given[name] = new Tensor("int64", BigInt64Array.of(BigInt(evaluate(dimension, symbols))), [1]);
    const missing = [...this.#inputNames].filter((name) => !given[name]);
    if (missing.length > 0)
      throw new InvalidError("missing_graph_input", `the graph was not given ${missing.slice(0, 5).join(", ")}`);
    const fetches: Record<string, Tensor | null> = {};
    for (const [name, node] of Object.entries(this.#outputs)) {
      const target = into[name];
      fetches[name] = target
        ? new Tensor(
            "float32",
            target,
            node.shape.map((size) => evaluate(size, symbols)),
          )
        : null;
    }
    const results = await this.#session.run(given, fetches);
    return Object.fromEntries(
      Object.entries(results).map(([name, tensor]) => [name, into[name] ?? (tensor.data as Float32Array)]),
    );
  }

  async close(): Promise<void> {
    await this.#session.release();
  }
}

function toTensor({ data, shape }: FeedTensor): Tensor {
  return data instanceof Float32Array ? new Tensor("float32", data, shape) : new Tensor("int64", data, shape);
}
