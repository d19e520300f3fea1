/**
 * A warning when a model is used with another system prompt than it was trained with; null when they agree. Spaces at
 * the ends and runs of spaces do not count.
 *
 * @param trained  stored with the model; null for a model that Drydock did not train
 * @param used     the one about to be used
 */
export function warnOfDifferingPrompt(trained: string | null, used: string): string | null {
  if (trained === null || joinSpaces(trained) === joinSpaces(used)) return null;
  if (joinSpaces(used) === "")
    return `The model was trained with the system prompt ${quote(trained)} and is used without one; answers may be worse. Leave out the system prompt setting to use the model's own.`;
  const own = joinSpaces(trained) === "" ? "without a system prompt" : `with the system prompt ${quote(trained)}`;
  return `The model was trained ${own} and is used with ${quote(used)}; answers may be worse. Use the model's own, or train with the new one.`;
}

function joinSpaces(text: string): string {
  return text.trim().replaceAll(/\s+/g, " ");
}

function quote(text: string): string {
  const joined = joinSpaces(text);
  return `"${joined.length > 80 ? `${joined.slice(0, 79)}…` : joined}"`;
}
