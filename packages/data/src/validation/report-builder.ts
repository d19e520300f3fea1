import type { ValidationIssue, ValidationReport } from "@drydock/spec";

/** Most findings that a report lists; its counts are of all. */
const maxListedIssues = 1000;

/** Collects the findings of one import; memory does not grow with their number. Errors are listed before warnings. */
export class ReportBuilder {
  readonly #listed: Record<ValidationIssue["severity"], ValidationIssue[]> = { error: [], warning: [] };
  readonly #counts: Record<ValidationIssue["severity"], number> = { error: 0, warning: 0 };
  readonly #byCode = new Map<string, number>();
  rowsRead = 0;
  rowsAccepted = 0;

  add(issue: ValidationIssue): void {
    this.#counts[issue.severity] += 1;
    this.#byCode.set(issue.code, (this.#byCode.get(issue.code) ?? 0) + 1);
    const listed = this.#listed[issue.severity];
    if (listed.length < maxListedIssues) listed.push(issue);
  }

  build(): ValidationReport {
    return {
      rowsRead: this.rowsRead,
      rowsAccepted: this.rowsAccepted,
      errors: this.#counts.error,
      warnings: this.#counts.warning,
      issues: [...this.#listed.error, ...this.#listed.warning].slice(0, maxListedIssues),
      byCode: Object.fromEntries([...this.#byCode].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    };
  }
}
