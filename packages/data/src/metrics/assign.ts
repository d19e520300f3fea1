/**
 * The one-to-one assignment of rows to columns with the largest total weight (Hungarian method with potentials, O(n³)).
 *
 * @param weights  rows × columns, not negative; any rectangle
 * @returns for each row its column, or null where there are more rows than columns
 */
export function assign(weights: readonly (readonly number[])[]): (number | null)[] {
  const rows = weights.length;
  const columns = weights[0]?.length ?? 0;
  const size = Math.max(rows, columns);
  const cost = (row: number, column: number): number => -(weights[row - 1]?.[column - 1] ?? 0);
  const rowPotential = new Float64Array(size + 1);
  const columnPotential = new Float64Array(size + 1);
  const rowOfColumn = new Int32Array(size + 1);
  const previous = new Int32Array(size + 1);
  for (let row = 1; row <= size; row++) {
    rowOfColumn[0] = row;
    let column = 0;
    const slack = new Float64Array(size + 1).fill(Number.POSITIVE_INFINITY);
    const isVisited = new Uint8Array(size + 1);
    do {
      isVisited[column] = 1;
      const current = at(rowOfColumn, column);
      let delta = Number.POSITIVE_INFINITY;
      let nextColumn = 0;
      for (let candidate = 1; candidate <= size; candidate++) {
        if (isVisited[candidate]) continue;
        const reduced = cost(current, candidate) - at(rowPotential, current) - at(columnPotential, candidate);
        if (reduced < at(slack, candidate)) {
          slack[candidate] = reduced;
          previous[candidate] = column;
        }
        if (at(slack, candidate) < delta) {
          delta = at(slack, candidate);
          nextColumn = candidate;
        }
      }
      for (let other = 0; other <= size; other++) {
        if (isVisited[other]) {
          const owner = at(rowOfColumn, other);
          rowPotential[owner] = at(rowPotential, owner) + delta;
          columnPotential[other] = at(columnPotential, other) - delta;
        } else slack[other] = at(slack, other) - delta;
      }
      column = nextColumn;
    } while (rowOfColumn[column] !== 0);
    while (column !== 0) {
      const before = at(previous, column);
      rowOfColumn[column] = at(rowOfColumn, before);
      column = before;
    }
  }
  const assigned = Array.from<unknown, number | null>({ length: rows }, () => null);
  for (let column = 1; column <= columns; column++) {
    const row = at(rowOfColumn, column);
    if (row >= 1 && row <= rows) assigned[row - 1] = column - 1;
  }
  return assigned;
}

function at(array: Float64Array | Int32Array, index: number): number {
  return array[index] ?? 0;
}
