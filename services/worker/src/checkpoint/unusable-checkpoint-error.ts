import { InvalidError } from "@drydock/kit";

/** A checkpoint that must not be loaded: a file is missing, or its content is not what the manifest says. */
export class UnusableCheckpointError extends InvalidError {
  /** Key prefix of the checkpoint. */
  readonly key: string;

  constructor(key: string, reason: string, cause?: unknown) {
    super("unusable_checkpoint", `checkpoint ${key} cannot be used: ${reason}`, cause === undefined ? {} : { cause });
    this.key = key;
  }
}
