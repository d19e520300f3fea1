/** Rows as aligned columns under their headings. Numbers stand on the right. */
export function table(headings: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string[] {
  if (rows.length === 0) return ["(none)"];
  const cells = rows.map((row) => row.map((cell) => (cell === null ? "-" : String(cell))));
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...cells.map((row) => row[column]!.length)),
  );
  const isNumeric = headings.map((_, column) =>
    rows.every((row) => typeof row[column] === "number" || row[column] === null),
  );
  const render = (row: readonly string[]): string =>
    row
      .map((cell, column) => (isNumeric[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join("  ")
      .trimEnd();
  return [render(headings.map((heading) => heading.toUpperCase())), ...cells.map(render)];
}

/** Names and values, one a line, the values in one column. */
export function fields(values: Readonly<Record<string, string | number | null | undefined>>): string[] {
  const known = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const width = Math.max(0, ...known.map(([name]) => name.length));
  return known.map(([name, value]) => `${`${name}:`.padEnd(width + 2)}${value}`);
}
