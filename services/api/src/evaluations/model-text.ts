import type { ModelReference } from "@drydock/spec";

/** A model as people read it: its name, or its address. */
export function modelText(model: ModelReference): string {
  return typeof model === "string" ? model : model.uri;
}
