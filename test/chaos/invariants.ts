/** What must hold whatever breaks, by number: reference, section D2. */
export const invariants = {
  1: "no double launch",
  2: "no orphan",
  3: "one terminal state",
  4: "no lost checkpoint",
  5: "fencing",
  6: "progress",
  7: "cancel",
  8: "accounting",
  9: "isolation",
  10: "bounded history",
  11: "idempotent API",
  12: "no secret told",
} as const;
export type Invariant = keyof typeof invariants;

export const invariantNumbers = Object.keys(invariants).map(Number) as Invariant[];

/** What was checked of one fault, and what did not hold. */
export class Findings {
  readonly fault: string;
  /** How often the fault struck. */
  times = 1;
  readonly #checked = new Map<Invariant, number>();
  readonly #violated = new Map<Invariant, string[]>();

  constructor(fault: string) {
    this.fault = fault;
  }

  /** Counts one check; `what` is told when it does not hold. */
  expect(invariant: Invariant, holds: boolean, what: string): void {
    this.#checked.set(invariant, this.checked(invariant) + 1);
    if (!holds) this.#violated.set(invariant, [...(this.#violated.get(invariant) ?? []), what]);
  }

  /** Counts what was checked of a run that several faults struck. */
  include(other: Findings): void {
    for (const [invariant, count] of other.#checked) {
      this.#checked.set(invariant, this.checked(invariant) + count);
      const told = other.#violated.get(invariant) ?? [];
      if (told.length > 0) this.#violated.set(invariant, [...(this.#violated.get(invariant) ?? []), ...told]);
    }
  }

  checked(invariant: Invariant): number {
    return this.#checked.get(invariant) ?? 0;
  }

  /** What did not hold. */
  violations(): string[] {
    return [...this.#violated].flatMap(([invariant, told]) =>
      told.map((what) => `${invariant} ${invariants[invariant]}: ${what}`),
    );
  }

  violationsOf(invariant: Invariant): number {
    return this.#violated.get(invariant)?.length ?? 0;
  }
}

/** Fault × invariant: how often each was checked, and in bold how often it did not hold. */
export function reportTable(title: string, all: readonly Findings[]): string {
  const heading = ["fault", "times", ...invariantNumbers.map((number) => `${number}`)];
  const rows = all.map((findings) => [
    findings.fault,
    String(findings.times),
    ...invariantNumbers.map((number) => {
      const [checked, violated] = [findings.checked(number), findings.violationsOf(number)];
      return checked === 0 ? "–" : violated === 0 ? String(checked) : `${checked}, **${violated} broken**`;
    }),
  ]);
  const legend = invariantNumbers.map((number) => `${number} ${invariants[number]}`).join(" · ");
  const broken = all.flatMap((findings) => findings.violations().map((what) => `- ${findings.fault}: ${what}`));
  return [
    `# ${title}: fault × invariant × checks`,
    "",
    `Invariants: ${legend}. "times" is how often the fault struck; a number is how often the invariant was checked after it.`,
    "",
    `| ${heading.join(" | ")} |`,
    `| ${heading.map((_, index) => (index === 0 ? "---" : "--:")).join(" | ")} |`,
    ...rows.map((row) => `| ${row.join(" | ")} |`),
    "",
    ...(broken.length === 0 ? ["Every invariant held."] : ["Broken:", ...broken]),
    "",
  ].join("\n");
}
