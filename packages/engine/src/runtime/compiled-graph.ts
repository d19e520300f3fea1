import { InvalidError } from "@drydock/kit";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import type { WeightLocation } from "../graph/onnx/encoder.ts";
import { evaluate } from "../graph/shape.ts";
import type { Node } from "../graph/ops.ts";
import type { Feeds, Symbols } from "./feeds.ts";
import { sessionHost } from "./session-host.ts";
import type { SentTensor } from "./session-messages.ts";

export interface CompileOptions {
  readonly threads: number;
  /** Frozen weights, read in place from files of `weightsDirectory`. */
  readonly weights?: ReadonlyMap<string, WeightLocation>;
  readonly weightsDirectory?: string;
  /** Graphs of different lanes run at the same time; default 0. */
  readonly lane?: number;
  /** Whether memory of a run is kept for the next one; default true. Many sessions would each keep their own. */
  readonly keepsMemory?: boolean;
}

/** A graph with its ONNX Runtime session, which lives on a session thread. One session serves all sizes of its symbols. */
export class CompiledGraph {
  readonly #host: ReturnType<typeof sessionHost>;
  readonly #session: number;
  readonly #outputs: Readonly<Record<string, Node>>;
  readonly #inputNames: ReadonlySet<string>;
  readonly #dimensions: readonly { readonly name: string; readonly dimension: string }[];

  private constructor(
    host: ReturnType<typeof sessionHost>,
    session: number,
    outputs: Readonly<Record<string, Node>>,
    inputNames: ReadonlySet<string>,
    dimensions: readonly { readonly name: string; readonly dimension: string }[],
  ) {
    this.#host = host;
    this.#session = session;
    this.#outputs = outputs;
    this.#inputNames = inputNames;
    this.#dimensions = dimensions;
  }

  static async compile(outputs: Readonly<Record<string, Node>>, options: CompileOptions): Promise<CompiledGraph> {
    const encoded = encodeOnnx(outputs, options.weights);
    const sessionOptions = {
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: "all",
      executionMode: "sequential",
      // Planning all memory ahead takes a second arena beside the one that the first run filled: 0.8 GB more at 129 M.
      enableMemPattern: false,
      enableCpuMemArena: options.keepsMemory ?? true,
      logSeverityLevel: 3,
      extra: {
        session: {
          // Threads that spin while they wait take the cores from everything else: with two runs on two cores, steps took
          // two to three times as long (docs/log/2026-11-23-thread-spinning.md).
          "intra_op.allow_spinning": "0",
          // Masked scores come out of the softmax's exponential as numbers that processors take a hundred times as long for.
          set_denormal_as_zero: "1",
          ...(options.weightsDirectory
            ? { model_external_initializers_file_folder_path: options.weightsDirectory }
            : {}),
        },
      },
    } as const;
    const host = sessionHost(options.lane ?? 0);
    const { session } = await host.ask({ kind: "open", model: encoded.model, options: sessionOptions }, "opened");
    return new CompiledGraph(host, session, outputs, new Set(encoded.inputNames), encoded.dimensionInputs);
  }

  /** Names of the inputs that `run` must be given, sizes left out. */
  get inputNames(): ReadonlySet<string> {
    return this.#inputNames;
  }

  /**
   * @param feeds    values by input name; names that the graph does not have are ignored
   * @param symbols  sizes of the symbols
   * @param into     arrays in shared memory (`sharedFloats`) that outputs are written into
   */
  async run(
    feeds: Feeds,
    symbols: Symbols,
    into: Readonly<Record<string, Float32Array>> = {},
  ): Promise<Record<string, Float32Array>> {
    const given: SentTensor[] = [];
    const missing: string[] = [];
    const sizes = new Set(this.#dimensions.map(({ name }) => name));
    for (const name of this.#inputNames) {
      const feed = feeds[name];
      if (feed) given.push({ name, ...feed });
      else if (!sizes.has(name)) missing.push(name);
    }
    for (const { name, dimension } of this.#dimensions)
      given.push({ name, data: BigInt64Array.of(BigInt(evaluate(dimension, symbols))), shape: [1] });
    if (missing.length > 0)
      throw new InvalidError("missing_graph_input", `the graph was not given ${missing.slice(0, 5).join(", ")}`);
    const targets: SentTensor[] = [];
    const wanted: string[] = [];
    for (const [name, { shape }] of Object.entries(this.#outputs)) {
      const data = into[name];
      if (data) targets.push({ name, data, shape: shape.map((size) => evaluate(size, symbols)) });
      else wanted.push(name);
    }
    const { outputs } = await this.#host.ask(
      { kind: "run", session: this.#session, feeds: given, targets, wanted },
      "ran",
    );
    return { ...into, ...Object.fromEntries(outputs.map(({ name, data }) => [name, data as Float32Array])) };
  }

  async close(): Promise<void> {
    await this.#host.ask({ kind: "close", session: this.#session }, "closed");
  }
}
