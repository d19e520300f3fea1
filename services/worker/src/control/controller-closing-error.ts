import { UnavailableError } from "@drydock/kit";

/** The controller answers, but closes and will not watch this attempt: only the next controller can take a report of it. */
export class ControllerClosingError extends UnavailableError {
  constructor(cause: unknown) {
    super("controller_closing", "the controller is closing and watches no more attempts", { cause });
  }
}
