/**
 * The judge can fail: planted misbehaviour is seen, so that silence of the other tests means
 * something.
 */
import { afterAll, describe, expect, test } from "vitest";
import { assert } from "../../src/lib/assert.ts";
import { realClock } from "../../src/lib/clock.ts";
import { FsError } from "../../src/lib/errno.ts";
import { KIB } from "../../src/lib/units.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { transferBytes } from "../../src/store/store.ts";
import { judgeStore, Misbehaviour } from "../support/hostile-judge.ts";
import { HostileWatch } from "../support/hostile-watch.ts";

const watch = new HostileWatch();
afterAll(() => watch.stop());

/** A store whose reads do `plant` first. */
class PlantedStore extends MemoryStore {
  readonly #plant: (into: Uint8Array | readonly Uint8Array[]) => unknown;

  constructor(plant: (into: Uint8Array | readonly Uint8Array[]) => unknown) {
    super(new Uint8Array(64 * KIB), { canWrite: false });
    this.#plant = plant;
  }

  override async read(
    offsetBytes: number,
    into: Uint8Array | readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#plant(into);
    return super.read(offsetBytes, into, signal);
  }
}

describe("the judge of hostile images", () => {
  test("takes a typed refusal for good", async () => {
    const verdict = await judgeStore(new PlantedStore(() => undefined));
    expect(verdict.outcome).toBe("EINVAL");
  });

  test.each([
    ["an assertion that fails", () => assert(false, "planted")],
    ["a property of undefined", () => (undefined as unknown as Uint8Array).length],
    ["a range that cannot be", () => new Uint8Array(-1)],
    ["text that is thrown", () => Promise.reject("planted")],
  ])("sees %s", async (_what, plant) => {
    await expect(judgeStore(new PlantedStore(plant))).rejects.toThrow(Misbehaviour);
  });

  test("sees an error whose code no image can cause", async () => {
    const plant = (): never => {
      throw new FsError("ENOSYS");
    };
    await expect(judgeStore(new PlantedStore(plant))).rejects.toThrow(Misbehaviour);
  });

  test("sees a promise that is rejected and left", async () => {
    const leave = async (): Promise<void> => {
      void Promise.reject(new Error("planted"));
      await realClock.turn();
    };
    await expect(watch.run("canary/rejection", leave)).rejects.toThrow(
      "rejected unseen: Error: planted",
    );
    watch.forgive();
  });

  test("sees an image that takes too long", async () => {
    const spin = async (): Promise<void> => {
      const before = process.cpuUsage();
      for (let spent = 0; spent < 2_200_000; ) {
        const { user, system } = process.cpuUsage(before);
        spent = user + system;
      }
    };
    await expect(watch.run("canary/time", spin)).rejects.toThrow("of processor time");
  });

  test("sees an image that takes too much", async () => {
    const kept: Uint8Array[] = [];
    const take = async (): Promise<void> => {
      kept.push(new Uint8Array(300 * KIB * KIB));
    };
    await expect(watch.run("canary/memory", take)).rejects.toThrow("has grown by");
    expect(transferBytes(kept)).toBe(300 * KIB * KIB);
  });
});
