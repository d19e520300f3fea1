import { messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import { EvaluationDetails, detailsKeyOf } from "@drydock/spec";

/**
 * The confidence intervals and slices that a worker left beside its results; null when there are none, as those of an older
 * worker. They explain the scores and are not needed for them: what cannot be read is logged, and the scores stand.
 *
 * @throws UnavailableError when storage does not answer
 */
export async function storedDetails(
  storage: ObjectStorage,
  resultsKey: string | null,
  logger: Logger,
): Promise<EvaluationDetails | null> {
  if (resultsKey === null || resultsKey === "") return null;
  const key = detailsKeyOf(resultsKey);
  if ((await storage.head(key)) === null) return null;
  const text = Buffer.from(await storage.get(key)).toString("utf8");
  try {
    return EvaluationDetails.parse(JSON.parse(text));
  } catch (error) {
    logger.warn({ key, why: messageOf(error) }, "details of an evaluation are not understood");
    return null;
  }
}
