/** What the process that is killed writes, for itself and for who looks at what is left. */

/** The `n`-th record of log `log`: 20 to 1,000 bytes, none of them zero. */
export function recordBytes(log, n) {
  const lengthBytes = 20 + ((n * 7919 + log * 131) % 981);
  return Uint8Array.from({ length: lengthBytes }, (_, at) => 1 + ((n * 31 + log * 17 + at) % 251));
}

/** Version `version` of document `doc`, which begins with that number: 4 bytes to 60 KB. */
export function docBytes(doc, version) {
  const lengthBytes = 4 + ((version * 104_729 + doc * 7919) % 60_000);
  const bytes = Uint8Array.from(
    { length: lengthBytes },
    (_, at) => 1 + ((version + doc + at) % 251),
  );
  new DataView(bytes.buffer).setUint32(0, version);
  return bytes;
}
