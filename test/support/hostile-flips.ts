/**
 * Every single-bit flip of an image, without running those that cannot matter.
 *
 *     first run    which bytes of the image does quire read at all?      a second run reads the
 *     same
 *     those        each bit is flipped, the image is judged, the bit is flipped back
 *     the others   quire is a function of the bytes it reads: a sample shows that it read no others
 */
import { roundDown } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import type { BaseImage } from "./hostile-images.ts";
import { judgeBytes, QuickJudge } from "./hostile-judge.ts";
import type { HostileWatch } from "./hostile-watch.ts";

/** One in so many bits of bytes that are not read is flipped all the same. */
const UNREAD_SAMPLE = 97;
/** One in so many flips is judged by everything there is, through `openVolume`. */
const FULL_SAMPLE = 509;

/** What became of the flips of one image. */
export interface FlipSummary {
  /** Bits flipped and judged. */
  judged: number;
  /** Bits in bytes that are never read, sampled or not. */
  unread: number;
  /** Judged flips by their first code, "right" for those without any. */
  readonly byCode: Map<string, number>;
}

/** Marks which bytes of a healthy image are read. Throws if a second run reads others. */
async function bytesRead(bytes: Uint8Array, judge: QuickJudge): Promise<Uint8Array> {
  const runs: Uint8Array[] = [];
  for (let run = 0; run < 2; run++) {
    const read = new Uint8Array(bytes.length);
    const store = new CountingStore(new MemoryStore(bytes));
    store.log = [];
    await judge.judge(store);
    for (const { op, offsetBytes, lengthBytes } of store.log) {
      if (op === "read") read.fill(1, offsetBytes, offsetBytes + lengthBytes);
    }
    runs.push(read);
  }
  if (!runs[0]!.every((mark, at) => mark === runs[1]![at])) throw new Error("two runs differ");
  return runs[0]!;
}

/** Flips each bit of `base` in turn. Throws for the first image that quire does not stand. */
export async function flipEveryBit(base: BaseImage, watch: HostileWatch): Promise<FlipSummary> {
  const bytes = base.bytes.slice();
  const judge = new QuickJudge();
  const read = await bytesRead(bytes, judge);
  const summary: FlipSummary = { judged: 0, unread: 0, byCode: new Map() };
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const at = roundDown(bit, 8) / 8;
    const isRead = read[at] === 1;
    if (!isRead) summary.unread++;
    if (!isRead && bit % UNREAD_SAMPLE !== 0) continue;
    const name = `${base.name}/bit/${bit}`;
    if (!watch.wants(name)) continue;
    bytes[at]! ^= 1 << (bit % 8);
    const codes = await watch.run(name, async () => {
      if (bit % FULL_SAMPLE === 0) await judgeBytes(bytes);
      return judge.judge(new MemoryStore(bytes));
    });
    bytes[at]! ^= 1 << (bit % 8);
    if (!isRead && codes.length > 0) throw new Error(`${name}: not read, but ${codes[0]}`);
    if (isRead) summary.judged++;
    const code = codes[0] ?? "right";
    summary.byCode.set(code, (summary.byCode.get(code) ?? 0) + 1);
  }
  return summary;
}
