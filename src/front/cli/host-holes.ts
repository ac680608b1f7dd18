/**
 * Where a sparse file of this machine has data. Node has no call for that (`SEEK_DATA`), so `perl`
 * asks the system; where it is not installed, or the file system does not know, all is read.
 */
import { spawnSync } from "node:child_process";
import { GIB, MIB } from "../../lib/units.ts";
import type { DataRange } from "../tree/tree-entry.ts";

const PROGRAM = "perl";
/** Asks about descriptor 3, whose size it is given: a line for each stretch of data. */
const SCRIPT = `
  my ($at, $size, $data, $hole) = (0, shift @ARGV);
  open(my $file, "<&=", 3) or exit 2;
  while ($at < $size) {
    defined($data = sysseek($file, $at, 3)) or exit($! + 0 == 6 ? 0 : 2);
    defined($hole = sysseek($file, $data, 4)) or exit 2;
    exit 2 if $hole <= $data;
    printf "%d %d\\n", $data, $at = $hole;
  }
`;
/** Fewer bytes of holes are read faster than a program is run. */
const HOLES_BYTES_MIN = 16 * MIB;

/**
 * The stretches of the file open as `fd` that may hold data, in order; all of it if that is not to
 * be found out, or not worth it.
 */
export function dataRangesOf(fd: number, sizeBytes: number, blocksBytes: number): DataRange[] {
  const all = [{ offsetBytes: 0, lengthBytes: sizeBytes }];
  if (sizeBytes - blocksBytes < HOLES_BYTES_MIN) return all;
  const done = spawnSync(PROGRAM, ["-e", SCRIPT, String(sizeBytes)], {
    stdio: ["ignore", "pipe", "ignore", fd],
    encoding: "utf8",
    maxBuffer: GIB,
  });
  if (done.error !== undefined || done.status !== 0) return all;
  const lines = done.stdout.split("\n").slice(0, -1);
  return lines.map((line) => {
    const [start = 0, end = 0] = line.split(" ").map(Number);
    return { offsetBytes: start, lengthBytes: Math.min(end, sizeBytes) - start };
  });
}
