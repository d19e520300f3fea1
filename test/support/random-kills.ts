import { randomInt } from "node:crypto";
import { SeededRandom } from "@drydock/engine";
import { until, type Embedded } from "./embedded.ts";

/** Something that comes to pass while a test looks on, and stays true from then on. */
export interface Moment {
  readonly name: string;
  readonly hasCome: () => Promise<boolean>;
}

/** The moment comes, however busy the computer is, or whatever it belongs to has failed. */
const comesWithinMs = 240_000;

/** kill -9 at moments that a seed chooses. The seed is told, and DRYDOCK_TEST_SEED chooses the same again. */
export class RandomKills {
  readonly #drydock: Embedded;
  readonly #random: SeededRandom;
  readonly #seed: number;

  constructor(drydock: Embedded) {
    this.#drydock = drydock;
    this.#seed = Number(process.env["DRYDOCK_TEST_SEED"] ?? randomInt(2 ** 31));
    this.#random = new SeededRandom(this.#seed);
  }

  choose<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.#random.uniform() * choices.length)] as T;
  }

  /** Kills a process of Drydock at one of the moments; comes back when it has been started again. */
  async strike(name: "api" | "controller", moments: readonly Moment[]): Promise<void> {
    const moment = this.choose(moments);
    console.log(`seed ${this.#seed}: kill -9 ${name} when ${moment.name}`);
    await until(
      moment.name,
      // Another process that was killed may be just what is asked.
      async () => ((await moment.hasCome().catch(() => false)) ? true : null),
      comesWithinMs,
    );
    await this.#drydock.killProcess(name);
  }
}
