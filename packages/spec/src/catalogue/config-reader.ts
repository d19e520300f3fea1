import { InvalidError } from "@drydock/kit";

/** Reads fields of parsed JSON and names the file and field when one is missing or has another type. */
export class ConfigReader {
  readonly #fields: Record<string, unknown>;
  readonly #place: string;

  constructor(json: unknown, place: string) {
    if (typeof json !== "object" || json === null || Array.isArray(json))
      throw badConfig(place, "must be a JSON object");
    this.#fields = json as Record<string, unknown>;
    this.#place = place;
  }

  nested(field: string, options: { orSelf?: boolean } = {}): ConfigReader {
    const value = this.#fields[field];
    if ((value === undefined || value === null) && options.orSelf === true) return this;
    return new ConfigReader(value, `${this.#place}: ${field}`);
  }

  /** A section after `fill` has added what the file leaves out. */
  nestedWith(field: string, fill: (section: unknown) => unknown): ConfigReader {
    return new ConfigReader(fill(this.#fields[field]), `${this.#place}: ${field}`);
  }

  number(field: string): number {
    const value = this.optionalNumber(field);
    if (value === undefined) throw badConfig(this.#place, `has no number "${field}"`);
    return value;
  }

  /** A number, or the first of a list of numbers (`image_size: [448, 448]`). */
  numberOrFirst(field: string): number {
    const value = this.#fields[field];
    const first: unknown = Array.isArray(value) ? value[0] : value;
    if (typeof first !== "number") throw badConfig(this.#place, `has no number "${field}"`);
    return first;
  }

  optionalNumber(field: string): number | undefined {
    const value = this.#fields[field];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0)
      throw badConfig(this.#place, `"${field}" is ${JSON.stringify(value)}, not a positive number`);
    return value;
  }

  optionalBoolean(field: string): boolean | undefined {
    const value = this.#fields[field];
    return typeof value === "boolean" ? value : undefined;
  }

  optionalText(field: string): string | undefined {
    const value = this.#fields[field];
    return typeof value === "string" ? value : undefined;
  }

  text(field: string): string {
    const value = this.optionalText(field);
    if (value === undefined) throw badConfig(this.#place, `has no text "${field}"`);
    return value;
  }

  /** A list of pairs of positive numbers; undefined when it is not there. */
  pairs(field: string): [number, number][] | undefined {
    const value = this.#fields[field];
    if (value === undefined || value === null) return undefined;
    const isPair = (each: unknown): each is [number, number] =>
      Array.isArray(each) && each.length === 2 && each.every((side) => typeof side === "number" && side > 0);
    if (!Array.isArray(value) || value.length === 0 || !value.every(isPair))
      throw badConfig(this.#place, `"${field}" is no list of pairs of positive numbers`);
    return value;
  }

  list(field: string): readonly unknown[] {
    const value = this.optionalList(field);
    if (value === undefined) throw badConfig(this.#place, `has no list "${field}"`);
    return value;
  }

  optionalList(field: string): readonly unknown[] | undefined {
    const value = this.#fields[field];
    return Array.isArray(value) ? value : undefined;
  }
}

function badConfig(place: string, problem: string): InvalidError {
  const message = `${place} ${problem}. Use the folder as it was downloaded or saved, or repair the file.`;
  return new InvalidError("bad_model_config", message, {
    details: [{ path: "model", code: "bad_model_config", message }],
  });
}
