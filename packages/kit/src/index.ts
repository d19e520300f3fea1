export * from "./canonical-json.ts";
export * from "./errors.ts";
export * from "./exit-code.ts";
export * from "./ids.ts";
export * from "./log.ts";
export * from "./storage/folder-storage.ts";
export * from "./storage/object-storage.ts";
export * from "./storage/open-storage.ts";
