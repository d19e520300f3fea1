import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { unpackDebianPackages } from "../cluster/build/debian-packages.ts";

const library = "usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/** The clock of one process, which a test can set wrong while it runs (libfaketime). Monotonic time stays true, as it does when an operator sets a clock. */
export class FalseClock {
  readonly #library: string;
  readonly #file: string;

  private constructor(path: string, file: string) {
    this.#library = path;
    this.#file = file;
  }

  /** A clock that is right. @param folder  for the file by which it is set */
  static async create(folder: string): Promise<FalseClock> {
    const isThere = async (root: string): Promise<boolean> =>
      await access(join(root, library)).then(
        () => true,
        () => false,
      );
    const root = await unpackDebianPackages("faketime-debian", ["libfaketime"], isThere);
    const clock = new FalseClock(join(root, library), join(folder, "clock"));
    await clock.jump(0);
    return clock;
  }

  /** What a process needs in order to go by this clock. */
  get environment(): Record<string, string> {
    return {
      LD_PRELOAD: this.#library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      FAKETIME_NO_CACHE: "1",
    };
  }

  /** From now on the clock is so many seconds ahead of the true time; negative: behind it. */
  async jump(seconds: number): Promise<void> {
    await writeFile(this.#file, `${seconds < 0 ? "-" : "+"}${Math.abs(seconds)}`);
  }
}
