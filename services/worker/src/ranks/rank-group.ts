import { exchangeTexts, type Collective } from "@drydock/engine";

/** The ranks of an attempt, as what they decide together needs them. A rank that is alone decides alone. */
export class RankGroup {
  readonly collective: Collective | null;

  constructor(collective: Collective | null) {
    this.collective = collective;
  }

  get rank(): number {
    return this.collective?.rank ?? 0;
  }

  get worldSize(): number {
    return this.collective?.worldSize ?? 1;
  }

  /** Rank 0 writes what all have in common: weights, state, manifest, model. */
  get isFirst(): boolean {
    return this.rank === 0;
  }

  /** Each rank gives a text; every rank gets all of them, in the order of the ranks. */
  async exchange(text: string): Promise<string[]> {
    return this.collective ? await exchangeTexts(this.collective, text) : [text];
  }

  /** Rank 0 does the work, the others wait for it; every rank gets its result, which must be JSON. */
  async byFirst<T>(work: () => Promise<T>): Promise<T> {
    if (!this.collective) return await work();
    const own = this.isFirst ? await work() : null;
    const [text = ""] = await this.exchange(this.isFirst ? JSON.stringify(own) : "");
    return JSON.parse(text) as T;
  }
}
