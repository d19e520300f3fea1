import {
  wholeOf,
  type ClusterQueueObject,
  type CohortObject,
  type KueueState,
  type QuotaHolder,
} from "./kueue-objects.ts";

const gpuResource = "nvidia.com/gpu";

/** What one ClusterQueue or Cohort has of one flavor by itself; null bounds: none. */
interface OwnQuota {
  readonly nominal: number;
  readonly borrowingLimit: number | null;
  readonly lendingLimit: number | null;
}

const nothing: OwnQuota = { nominal: 0, borrowingLimit: null, lendingLimit: null };

/**
 * How many GPUs of a flavor a queue could have with nothing else running, by the rules of Kueue's `potentialAvailable`
 * (pkg/cache/scheduler/resource_node.go): its own, and what its cohort lends, bounded by its borrowing limit. A cohort has
 * what it and its members have less what these keep to themselves (their lending limit), and what its own parent lends.
 */
export class KueueQuotas {
  readonly #cohorts: ReadonlyMap<string, CohortObject>;
  readonly #queuesOf = new Map<string, ClusterQueueObject[]>();
  readonly #childrenOf = new Map<string, Set<string>>();

  constructor({ clusterQueues, cohorts }: Pick<KueueState, "clusterQueues" | "cohorts">) {
    this.#cohorts = new Map(cohorts.map((cohort) => [cohort.metadata.name, cohort]));
    for (const queue of clusterQueues) {
      const name = queue.spec?.cohortName;
      if (name) this.#queuesOf.set(name, [...(this.#queuesOf.get(name) ?? []), queue]);
    }
    for (const { metadata, spec } of cohorts)
      if (spec?.parentName)
        this.#childrenOf.set(
          spec.parentName,
          new Set([...(this.#childrenOf.get(spec.parentName) ?? []), metadata.name]),
        );
  }

  /** The most GPUs of a flavor that the queue may ever have. */
  limitOf({ spec }: ClusterQueueObject, flavor: string): number {
    const own = ownQuota(spec, flavor);
    return spec?.cohortName ? this.#with(own, own.nominal, spec.cohortName, flavor) : own.nominal;
  }

  /** A member of a cohort with what the cohort lends it. */
  #with(own: OwnQuota, subtree: number, cohort: string, flavor: string, seen: readonly string[] = []): number {
    // A cycle of parents is refused by Kueue; it would hang us all the same.
    if (seen.includes(cohort)) return subtree;
    const parent = this.#cohorts.get(cohort)?.spec;
    const whole = this.#subtree(cohort, flavor);
    const lent = parent?.parentName
      ? this.#with(ownQuota(parent, flavor), whole, parent.parentName, flavor, [...seen, cohort])
      : whole;
    const available = subtree - lendable(own, subtree) + lent;
    return own.borrowingLimit === null ? available : Math.min(available, subtree + own.borrowingLimit);
  }

  /** What a cohort has with all its members, less what these lend to nobody. */
  #subtree(cohort: string, flavor: string, seen: readonly string[] = []): number {
    if (seen.includes(cohort)) return 0;
    let total = ownQuota(this.#cohorts.get(cohort)?.spec, flavor).nominal;
    for (const { spec } of this.#queuesOf.get(cohort) ?? []) {
      const own = ownQuota(spec, flavor);
      total += lendable(own, own.nominal);
    }
    for (const child of this.#childrenOf.get(cohort) ?? [])
      total += lendable(
        ownQuota(this.#cohorts.get(child)?.spec, flavor),
        this.#subtree(child, flavor, [...seen, cohort]),
      );
    return total;
  }
}

function lendable({ lendingLimit }: OwnQuota, subtree: number): number {
  return lendingLimit === null ? subtree : Math.min(subtree, lendingLimit);
}

/** What a ClusterQueue or Cohort has of a flavor by itself. */
export function ownQuota(holder: QuotaHolder | undefined, flavor: string): OwnQuota {
  for (const { flavors = [] } of holder?.resourceGroups ?? []) {
    const found = flavors.find(({ name }) => name === flavor)?.resources?.find(({ name }) => name === gpuResource);
    if (found)
      return {
        nominal: wholeOf(found.nominalQuota),
        borrowingLimit: found.borrowingLimit === undefined ? null : wholeOf(found.borrowingLimit),
        lendingLimit: found.lendingLimit === undefined ? null : wholeOf(found.lendingLimit),
      };
  }
  return nothing;
}

/** Flavors of GPUs that a ClusterQueue names, in its order. */
export function gpuFlavors({ spec }: ClusterQueueObject): string[] {
  return (spec?.resourceGroups ?? []).flatMap(({ flavors = [] }) =>
    flavors.filter(({ resources = [] }) => resources.some(({ name }) => name === gpuResource)).map(({ name }) => name),
  );
}

/** GPUs of a flavor that admitted workloads hold, and those of them that are borrowed. */
export function reservedOf({ status }: ClusterQueueObject, flavor: string): { used: number; borrowed: number } {
  const found = status?.flavorsReservation
    ?.find(({ name }) => name === flavor)
    ?.resources?.find(({ name }) => name === gpuResource);
  return { used: wholeOf(found?.total), borrowed: wholeOf(found?.borrowed) };
}
