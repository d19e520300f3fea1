/**
 * Names in files of models that `transformers` has: version 5 writes `vision_tower.…`, `language_model.model.…` and
 * `language_model.lm_head.weight`; other files have the names in memory.
 */
export function fileNames(name: string): readonly string[] {
  const [old] = renamed(name, [
    [/^model\.language_model\./, "language_model.model."],
    [/^lm_head\./, "language_model.lm_head."],
    [/^model\./, ""],
  ]);
  return old === name ? [name] : [old, name];
}

/** A name after all rules, in order. */
export function renamed(name: string, rules: readonly (readonly [RegExp, string])[]): readonly [string] {
  return [rules.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), name)];
}
