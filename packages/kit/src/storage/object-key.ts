import { InvalidError } from "../errors.ts";

/** Refuses keys that are not plain relative paths: empty, absolute, with empty, `.` or `..` parts, or a NUL. */
export function checkObjectKey(key: string): string {
  const parts = key.split("/");
  if (key === "" || key.includes("\0") || parts.some((part) => part === "" || part === "." || part === "..")) {
    throw new InvalidError("invalid_object_key", `object key "${key}" is not a plain relative path`);
  }
  return key;
}
