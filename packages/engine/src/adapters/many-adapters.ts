import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../batch/model-batch.ts";
import { pickRows } from "../batch/pick-rows.ts";
import { AnswerGenerator, type GenerationOptions } from "../generation/answer-generator.ts";
import { HostPasses } from "../generation/host-passes.ts";
import { liveTensors, type LiveTensor } from "../models/load-model.ts";
import type { LoraPlacement, ModuleAdapter } from "../models/variables.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { readAdapter, type Adapter } from "./peft-files.ts";

/** Name of an adapter for a row; null = the base alone. */
export type AdapterName = string | null;

/**
 * One base in memory and several adapters beside it; each row of a batch is answered with the adapter that it names, or with none.
 *
 * All adapters are brought to one form, the modules of all with the largest rank of each, zeros where an adapter has nothing: so one
 * graph serves them all, and which adapter it computes with is a matter of what it is fed. Rows of one adapter run together.
 */
export class ManyAdapters {
  readonly #generator: AnswerGenerator;
  /** What the graph is fed; changed from one group of rows to the next. */
  readonly #live: Map<string, LiveTensor>;
  readonly #tensors: ReadonlyMap<AdapterName, ReadonlyMap<string, LiveTensor>>;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(
    generator: AnswerGenerator,
    live: Map<string, LiveTensor>,
    tensors: ReadonlyMap<AdapterName, ReadonlyMap<string, LiveTensor>>,
  ) {
    this.#generator = generator;
    this.#live = live;
    this.#tensors = tensors;
  }

  /** @throws InvalidError for an adapter that does not fit the base, or is of a kind that only its own graph computes */
  static async open(options: {
    readonly directory: string;
    /** Folders by the names that rows use. */
    readonly adapters: Readonly<Record<string, string>>;
    readonly threads: number;
  }): Promise<ManyAdapters> {
    const folder = await openModelFolder(options.directory);
    const adapters = new Map<string, Adapter>();
    for (const [name, directory] of Object.entries(options.adapters)) {
      const adapter = await readAdapter(directory, folder.model);
      liveTensors(folder, adapter, `adapter ${name}`);
      if (adapter.placement.usesDora || adapter.placement.whole.size > 0)
        throw new InvalidError(
          "adapter_stands_alone",
          `adapter ${name} ${adapter.placement.usesDora ? "uses DoRA" : "changes whole weights"}, which rows cannot do one by one: merge it into a model of its own, or serve it alone`,
        );
      adapters.set(name, adapter);
    }
    const lora = commonPlacement([...adapters.values()].map(({ placement }) => placement));
    const { variables } = folder.model.forward({ hasImages: true, lora });
    const shapes = [...variables.trained].map(([name, node]) => [name, node.shape.map(Number)] as const);
    const tensors = new Map<AdapterName, ReadonlyMap<string, LiveTensor>>([[null, fitted(null, shapes)]]);
    for (const [name, adapter] of adapters) tensors.set(name, fitted(adapter, shapes));
    const live = new Map(tensors.get(null));
    const passes = new HostPasses({ threads: options.threads, folder, lora, live });
    return new ManyAdapters(new AnswerGenerator(passes), live, tensors);
  }

  /** Logits `[B·T, vocabulary]` of every position, padding included. @param names  the adapter of each row */
  async logits(batch: ModelBatch, names: readonly AdapterName[]): Promise<Float32Array> {
    let whole: Float32Array | null = null;
    await this.#byAdapter(batch, names, async (part, rows) => {
      const logits = await this.#generator.logits(part);
      const size = logits.length / rows.length;
      whole ??= new Float32Array(size * batch.batchSize);
      for (const [at, row] of rows.entries()) whole.set(logits.subarray(at * size, (at + 1) * size), row * size);
    });
    return whole ?? new Float32Array(0);
  }

  /** Whole answers as token ids, by row. @param names  the adapter of each row */
  async answers(batch: ModelBatch, options: GenerationOptions, names: readonly AdapterName[]): Promise<number[][]> {
    const answers: number[][] = Array.from({ length: batch.batchSize }, () => []);
    await this.#byAdapter(batch, names, async (part, rows) => {
      const own = await this.#generator.answers(part, options);
      for (const [at, row] of rows.entries()) answers[row] = own[at] as number[];
    });
    return answers;
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#generator.close();
  }

  /** Runs the rows of one adapter after those of another; calls at the same time wait for each other. */
  async #byAdapter(
    batch: ModelBatch,
    names: readonly AdapterName[],
    run: (part: ModelBatch, rows: readonly number[]) => Promise<void>,
  ): Promise<void> {
    const groups = Map.groupBy(
      Array.from({ length: batch.batchSize }, (_, row) => row),
      (row) => names[row] ?? null,
    );
    for (const name of groups.keys())
      if (!this.#tensors.has(name))
        throw new InvalidError(
          "unknown_adapter",
          `no adapter is called "${name}"; there are ${[...this.#tensors.keys()].filter((known) => known !== null).join(", ")}`,
        );
    const before = this.#turn;
    const turn = (async () => {
      await before.catch(() => undefined); // told to whoever asked for it
      for (const [name, rows] of groups) {
        for (const [tensor, values] of this.#tensors.get(name) ?? []) this.#live.set(tensor, values);
        await run(pickRows(batch, rows), rows);
      }
    })();
    this.#turn = turn;
    await turn;
  }
}

/** The modules of all, each with its largest rank; scales are part of the second matrix. */
function commonPlacement(placements: readonly LoraPlacement[]): LoraPlacement {
  const modules = new Map<string, ModuleAdapter>();
  for (const placement of placements)
    for (const [path, { rank }] of placement.modules)
      modules.set(path, { rank: Math.max(rank, modules.get(path)?.rank ?? 0), scale: 1 });
  return { dropout: 0, modules, usesDora: false, whole: new Set() };
}

/** An adapter's matrices in the common form. */
function fitted(
  adapter: Adapter | null,
  shapes: readonly (readonly [string, readonly number[]])[],
): Map<string, LiveTensor> {
  return new Map(
    shapes.map(([name, shape]) => {
      const [rows = 0, columns = 0] = shape;
      const data = sharedFloats(rows * columns);
      const isFirst = name.endsWith(".lora_A.weight");
      const own = adapter?.tensors.get(name);
      const module = adapter?.placement.modules.get(name.replace(/\.lora_[AB]\.weight$/, ""));
      if (own && module && isFirst) data.set(own);
      else if (own && module)
        for (let row = 0; row < rows; row++)
          for (let column = 0; column < module.rank; column++)
            data[row * columns + column] = (own[row * module.rank + column] as number) * module.scale;
      return [name, { data, shape }];
    }),
  );
}
