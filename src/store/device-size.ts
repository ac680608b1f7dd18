/**
 * The size of a block device, which `fstat` does not tell and Node has no `ioctl` to ask for.
 *
 * Linux writes it into `/sys`. Where that is not to be had (another system, a bare container), the
 * end is searched by reading: a read at or behind it gets nothing.
 */
import { readFile } from "node:fs/promises";
import { SECTOR_BYTES } from "../lib/units.ts";

/** Doublings of one sector after which no device ends: 2^52 bytes. */
const DOUBLINGS_MAX = 43;

/** Major and minor number of a device, from `st_rdev` as the C library of Linux packs it. */
export function splitRdev(rdev: bigint): { readonly major: bigint; readonly minor: bigint } {
  return {
    major: ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xffff_f000n),
    minor: (rdev & 0xffn) | ((rdev >> 12n) & 0xffff_ff00n),
  };
}

/**
 * Size in bytes of the block device numbered `rdev`. `isReadable` reads one sector at a byte
 * offset: true if there are bytes, false behind the end; what it throws is thrown.
 */
export async function deviceSizeBytes(
  rdev: bigint,
  isReadable: (offsetBytes: number) => Promise<boolean>,
): Promise<number> {
  const { major, minor } = splitRdev(rdev);
  const text = await readFile(`/sys/dev/block/${major}:${minor}/size`, "utf8").catch(() => "");
  const sectorCount = Number.parseInt(text, 10);
  if (Number.isSafeInteger(sectorCount * SECTOR_BYTES)) return sectorCount * SECTOR_BYTES;
  return searchEndBytes(isReadable);
}

/** The first byte that is not readable, by some 80 reads; a multiple of the sector. */
export async function searchEndBytes(
  isReadable: (offsetBytes: number) => Promise<boolean>,
): Promise<number> {
  let readable = 0; // Sectors known to be there,
  let missing = 1; // and the count of sectors that there are not.
  for (let doubling = 0; doubling < DOUBLINGS_MAX; doubling++) {
    if (!(await isReadable((missing - 1) * SECTOR_BYTES))) break;
    readable = missing;
    missing *= 2;
  }
  while (missing - readable > 1) {
    const middle = readable + Math.floor((missing - readable) / 2);
    if (await isReadable((middle - 1) * SECTOR_BYTES)) readable = middle;
    else missing = middle;
  }
  return readable * SECTOR_BYTES;
}
