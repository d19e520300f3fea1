import { InvalidError } from "../errors.ts";

/** Refuses keys that are not plain relative paths: empty, absolute, with empty, `.` or `..` parts, or a NUL. */
export function checkObjectKey(key: string): string {
  const parts = key.split("/");
  if (key === "" || key.includes("\0") || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new InvalidError("invalid_object_key", `object key "${key}" is not a plain relative path`);
  }
  return key;
}

/** The order in which storage lists keys: by their bytes in UTF-8. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
