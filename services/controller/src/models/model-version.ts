import { PreconditionFailedError, type ObjectStorage } from "@drydock/kit";

/** The last reservation in each storage: this process makes one at a time. */
const lastReservation = new WeakMap<ObjectStorage, Promise<unknown>>();

/**
 * The version that the model of a run gets: the one it reserved before, else the next free number, reserved by an object
 * that only one run can create. Asking again answers the same. Not every S3-compatible server makes conditional writes
 * atomic, so the reservations of one controller wait for each other.
 */
export async function reserveModelVersion(storage: ObjectStorage, name: string, runId: string): Promise<number> {
  const before = lastReservation.get(storage) ?? Promise.resolve();
  const reservation = before.then(
    async () => await reserve(storage, name, runId),
    async () => await reserve(storage, name, runId),
  );
  lastReservation.set(storage, reservation);
  return await reservation;
}

async function reserve(storage: ObjectStorage, name: string, runId: string): Promise<number> {
  const prefix = `model-versions/${name}/`;
  let highest = 0;
  for await (const { key } of storage.list(prefix)) {
    const version = Number(key.slice(prefix.length));
    if (Buffer.from(await storage.get(key)).toString() === runId) return version;
    highest = Math.max(highest, version);
  }
  for (let version = highest + 1; ; version++) {
    try {
      await storage.put(`${prefix}${String(version).padStart(6, "0")}`, runId, { ifNoneMatch: true });
      return version;
    } catch (error) {
      if (!(error instanceof PreconditionFailedError)) throw error;
    }
  }
}
