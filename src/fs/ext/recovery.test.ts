/**
 * Journals that are damaged at random: always a right answer or a typed error, and never a write.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { creat, FastCommitBuilder, inode } from "../../../test/support/fast-commit-builder.ts";
import {
  copyBlock,
  homeBlock,
  JournalBuilder,
  type LogOptions,
  replayCrafted,
} from "../../../test/support/journal-builder.ts";
import { runs } from "../../../test/support/runs.ts";
import { hasErrnoCode } from "../../lib/errno.ts";

const BLOCK = 1024;
const CODES = ["EUCLEAN", "EBADMSG", "EOPNOTSUPP", "EIO"];

function logWith(checksum: 0 | 1 | 2 | 3, isFast: boolean): JournalBuilder {
  const options: LogOptions = { blockBytes: BLOCK, checksum, blockCount: 1040 };
  const log = new JournalBuilder(isFast ? { ...options, fastCommitBlocks: 16 } : options);
  log.D(2, 25, 26, 27).R(2, 28).C(2).D(3, 25, 28).C(3).R(4, 26).D(4, 29).C(4);
  if (!isFast) return log;
  const area = new FastCommitBuilder(5, { blockBytes: BLOCK });
  return area
    .add(inode(16), creat(12, 16, "a"))
    .commit()
    .add(inode(16))
    .commit()
    .writeTo(log);
}

describe("a damaged journal", () => {
  const damage = fc.record({
    block: fc.nat(13),
    at: fc.nat(BLOCK - 1),
    value: fc.integer({ min: 1, max: 255 }),
    isFewBits: fc.boolean(),
  });

  test("ends with a typed error or an answer, with and without salvage", async () => {
    const property = fc.asyncProperty(
      fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const),
      fc.boolean(),
      fc.boolean(),
      fc.array(damage, { minLength: 1, maxLength: 4 }),
      async (checksum, isFast, salvage, damages) => {
        const log = logWith(checksum, isFast);
        const written = [...log.blocks.keys()];
        for (const { block, at, value, isFewBits } of damages) {
          // Most fields stand at the start of a block.
          const bytes = log.block(written[block % written.length]!);
          bytes[isFewBits ? at % 64 : at]! ^= value;
        }
        try {
          const { device, read } = await replayCrafted(log, { salvage });
          expect(device.sizeBytes).toBeGreaterThan(0);
          for (let home = 20; home < 35; home++) await read(home);
        } catch (thrown) {
          if (!hasErrnoCode(thrown)) throw thrown;
          expect(CODES).toContain(thrown.code);
        }
      },
    );
    await fc.assert(property, { numRuns: runs(150) });
  });

  test("with v3 checksums never shows a copy that is not what was logged", async () => {
    const property = fc.asyncProperty(
      damage,
      fc.boolean(),
      async ({ block, at, value }, salvage) => {
        const log = logWith(3, false);
        const written = [...log.blocks.keys()].filter((journalBlock) => journalBlock !== 0);
        log.block(written[block % written.length]!)[at]! ^= value;
        const crafted = await replayCrafted(log, { salvage }).catch(() => undefined);
        for (let home = 25; crafted !== undefined && home < 30; home++) {
          const found = await crafted.read(home);
          const allowed = [2, 3, 4].map((tid) => copyBlock(tid, home, BLOCK));
          allowed.push(homeBlock(home, BLOCK));
          expect(allowed.some((content) => Buffer.compare(content, found) === 0)).toBe(true);
        }
      },
    );
    await fc.assert(property, { numRuns: runs(150) });
  });
});
