import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Client, Connection } from "@temporalio/client";
import type { Embedded } from "../support/embedded.ts";

/** Asks the Temporal server of a Drydock, past Drydock. */
export async function askTemporal<Answer>(
  { stateDirectory }: Embedded,
  question: (client: Client) => Promise<Answer>,
): Promise<Answer> {
  const settings = await readFile(join(stateDirectory, "settings.json"), "utf8");
  const { ports } = JSON.parse(settings) as { ports: { temporal: number } };
  const connection = await Connection.connect({ address: `127.0.0.1:${ports.temporal}` });
  try {
    return await question(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

/** How often the activity that a run's workflow waits for was started; 0 when it waits for none. */
export async function startsOfActivity(drydock: Embedded, runId: string): Promise<number> {
  return await askTemporal(drydock, async (client) => {
    const { raw } = await client.workflow.getHandle(runId).describe();
    return raw.pendingActivities?.[0]?.attempt ?? 0;
  });
}
