/** A Kubernetes object as JSON; fields that we do not know stay in it. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
  readonly [key: string]: unknown;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly deletionTimestamp?: string;
  /** From its deletion to its end by force. */
  readonly deletionGracePeriodSeconds?: number;
  readonly creationTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly [key: string]: unknown;
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

export interface ContainerStatus {
  readonly name: string;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly running?: object;
    readonly terminated?: {
      readonly exitCode: number;
      readonly signal?: number;
      readonly reason?: string;
      readonly message?: string;
      readonly finishedAt?: string;
    };
  };
}

/** What we read of a pod. */
export interface PodObject extends KubeObject {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly podIP?: string;
    readonly conditions?: readonly Condition[];
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
  };
}

/** What we read of a Job. */
export interface JobObject extends KubeObject {
  readonly spec?: { readonly suspend?: boolean; readonly completions?: number };
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly active?: number;
    /** Pods that are to end and have not yet. */
    readonly terminating?: number;
    readonly failed?: number;
    readonly succeeded?: number;
    readonly ready?: number;
  };
}

export function conditionOf(object: PodObject | JobObject, type: string): Condition | undefined {
  return object.status?.conditions?.find((condition) => condition.type === type && condition.status === "True");
}
