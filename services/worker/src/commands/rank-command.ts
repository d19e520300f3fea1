import { ConnectWorkerClient } from "../control/connect-worker-client.ts";
import { engineDoors } from "../engine/engine-doors.ts";
import { parseArguments } from "./arguments.ts";
import { rankSettingsOf } from "./rank-environment.ts";
import { runRank } from "./rank.ts";

/** `rank`: one rank of an attempt, started by the controller's back end; everything comes by environment. */
export async function rankCommand(values: readonly string[]): Promise<number> {
  parseArguments("rank", values, {});
  const settings = rankSettingsOf(process.env);
  return await runRank(settings, new ConnectWorkerClient(settings.controllerUrl, settings), engineDoors);
}
