import { ForbiddenError } from "@drydock/kit";

/** The controller no longer knows this attempt: another has taken its place, or the run is over. */
export class StaleAttemptError extends ForbiddenError {
  constructor(cause: unknown) {
    super("stale_attempt", "the controller refused this attempt's token: another attempt has taken its place", {
      cause,
    });
  }
}
