/** Why a row cannot be used. */
export interface RowProblem {
  readonly code: string;
  /** Field of the row; null when it is the whole row. */
  readonly path: string | null;
  readonly message: string;
}
