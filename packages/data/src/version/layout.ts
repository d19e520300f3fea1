/** Keys of a data set in object storage. */
export const datasetKeys = {
  image: (datasetId: string, sha256: string, extension: string): string =>
    `datasets/${datasetId}/images/${sha256}.${extension}`,
  records: (datasetId: string, version: number): string => `datasets/${datasetId}/versions/${version}/records.jsonl`,
  report: (datasetId: string, version: number): string => `datasets/${datasetId}/versions/${version}/report.json`,
  /** Written last: a version exists when its manifest does. */
  manifest: (datasetId: string, version: number): string => `datasets/${datasetId}/versions/${version}/manifest.json`,
} as const;
