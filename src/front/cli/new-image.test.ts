/** What the system tells of the disk while an image is made is not lost. */
import { existsSync, type fdatasync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { scratchDirectory } from "../../../test/support/tools.ts";
import { realClock } from "../../lib/clock.ts";
import { MIB } from "../../lib/units.ts";
import { NewImage } from "./new-image.ts";

const folder = scratchDirectory("new-image");
const asked: ((failure: NodeJS.ErrnoException | null) => void)[] = [];

vi.mock(import("node:fs"), async (importOriginal) => {
  const fdatasyncLater = (_fd: number, done: (typeof asked)[0]): void => void asked.push(done);
  return { ...(await importOriginal()), fdatasync: fdatasyncLater as typeof fdatasync };
});

async function written(path: string): Promise<NewImage> {
  const image = new NewImage(path);
  const store = image.store(64 * MIB);
  for (let at = 0; at < 64 * MIB; at += MIB) await store.write(at, new Uint8Array(MIB).fill(1));
  return image;
}

test("an image waits for what goes to the disk early, and is there when that is done", async () => {
  const path = join(folder, "good.img");
  const image = await written(path);
  let isFinished = false;
  const finishing = image.finish().then(() => {
    isFinished = true;
  });
  await realClock.turn();
  expect(isFinished).toBe(false);
  expect(asked.length).toBe(1);
  asked.pop()!(null);
  await finishing;
  expect(existsSync(path)).toBe(true);
});

test("an error that was told early makes the image fail, and nothing is left of it", async () => {
  const path = join(folder, "bad.img");
  const image = await written(path);
  asked.pop()!(Object.assign(new Error("EIO: i/o error"), { code: "EIO" }));
  await expect(image.finish()).rejects.toMatchObject({ code: "EIO", syscall: "fdatasync" });
  await image.discard();
  expect(existsSync(path)).toBe(false);
});
