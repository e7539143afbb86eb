/** Every named fault alone: the job ends as its table says, and the audit holds. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { NamedFault } from './named-fault.ts';
import { FAULTS, type Stage, startStage } from './play.ts';
import { STORE_FAULTS } from './store-faults.ts';

const LONG = process.env.XVAULT_TEST_LONG === '1';
/** Places and strengths tried of each. */
const DRAWS = Number(process.env.XVAULT_DRAWS ?? (LONG ? 25 : 1));

describe('a backup meets', { concurrency: 1 }, () => {
  let stage: Stage;
  before(async () => {
    stage = await startStage();
  });
  after(() => stage[Symbol.asyncDispose]());
  for (const [name, fault] of Object.entries(FAULTS)) {
    test(`${name}: ${fault.what}`, async () => {
      let struck = 0;
      for (let seed = 1; seed <= DRAWS; seed++) struck += await meet(name, fault, seed);
      assert.ok(struck > 0, 'the fault has struck');
    });
  }

  async function meet(name: string, fault: NamedFault, seed: number): Promise<number> {
    const faults = [{ name, seed }];
    // What the pool does has nothing to do with what a third of all requests finds out about the bucket.
    const probes = LONG || name in STORE_FAULTS;
    const { ending, error, struck } = await stage.play({ machine: 'small', faults, probes });
    const text = `seed ${seed}: ${ending} ${error?.message}`;
    assert.ok(struck ? fault.ends.includes(ending) : ending === 'succeeded', text);
    if (error !== undefined) {
      if (fault.says) assert.match(error.message, fault.says);
      if (fault.retry) assert.equal(error.retry, fault.retry, text);
    }
    return struck ? 1 : 0;
  }
});
