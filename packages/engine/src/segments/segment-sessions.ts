import { createHash } from "node:crypto";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import type { SegmentGraph } from "./cut-graph.ts";

/** Sessions of segments: layers that are built alike share one, their weights are fed. */
export class SegmentSessions {
  readonly #options: { readonly threads: number; readonly lane: number };
  readonly #sessions = new Map<string, Promise<CompiledGraph>>();

  constructor(options: { readonly threads: number; readonly lane: number }) {
    this.#options = options;
  }

  async sessionOf({ outputs }: SegmentGraph): Promise<CompiledGraph> {
    const key = createHash("sha256").update(encodeOnnx(outputs).model).digest("hex");
    let session = this.#sessions.get(key);
    if (!session)
      this.#sessions.set(key, (session = CompiledGraph.compile(outputs, { ...this.#options, keepsMemory: false })));
    return await session;
  }

  /** How many there are. */
  get count(): number {
    return this.#sessions.size;
  }

  async close(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).close();
    this.#sessions.clear();
  }
}
