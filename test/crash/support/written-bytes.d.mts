/** The `n`-th record of log `log`: 20 to 1,000 bytes, none of them zero. */
export function recordBytes(log: number, n: number): Uint8Array;

/** Version `version` of document `doc`, which begins with that number: 4 bytes to 60 KB. */
export function docBytes(doc: number, version: number): Uint8Array;
