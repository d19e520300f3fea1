import { InvalidError } from "@drydock/kit";

/** What `use` makes of a picture; its refusals name the picture. */
export function namedPicture<Result>(name: string, use: () => Result): Result {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw new InvalidError(error.code, `picture ${name} cannot be used: ${error.message}`, { cause: error });
  }
}
