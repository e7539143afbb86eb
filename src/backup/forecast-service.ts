/** What will be stored, and cost, day by day under the bucket's rules: asked of the catalogue's listing. */
import { type Forecast, forecastDays } from '../catalog/forecast-days.ts';
import { isBackupError } from '../errors.ts';
import type { Cancellable } from '../ports.ts';
import { formatTime } from '../time.ts';
import type { Engine } from './context.ts';
import { readRulesInForce } from './expiry.ts';

export interface ForecastReport extends Forecast {
  checked_at: string;
  /** `settings`: the bucket's rules cannot be read, so XVAULT_RETENTION_DAYS counts. */
  rules_from: 'bucket' | 'settings';
  /** Absent where storage has no price (XVAULT_S3_PRICES). */
  currency?: string;
  prices?: string;
}

export interface ForecastService {
  /** Today and so many days more. Errors: the store's. */
  forecast(input: { days: number }, options: Cancellable): Promise<ForecastReport>;
}

export interface ForecastSettings {
  retentionDays: Readonly<Record<string, number>>;
  /** Retention class → days for which its objects are locked. */
  lockDays?: Readonly<Record<string, number>> | undefined;
}

/** Over the engine's bucket. */
export function createForecastService(
  engine: Pick<Engine, 'store' | 'keys' | 'catalog' | 'clock' | 'delta' | 'rotation'>,
  { retentionDays, lockDays = {} }: ForecastSettings,
): ForecastService {
  return {
    forecast: async ({ days }, options) => {
      const { store, catalog, clock, delta, rotation } = engine;
      const [{ rules, from }, versioning, lock] = await Promise.all([
        readRulesInForce(engine, retentionDays, options),
        ifAllowed(() => store.versioning(options)),
        ifAllowed(() => store.bucketLock(options)),
      ]);
      const newest = await catalog.newestReadable(options);
      const machines = (await catalog.holdings()).values();
      const { prices } = delta;
      const nowMs = clock.now();
      const forecast = forecastDays({
        machines,
        rules,
        nowMs,
        days,
        prices,
        lockDays,
        bucketLockDays: lock?.byDefault?.days,
        // suspended: what was stored before is hidden, what comes now is not
        versioned: { enabled: true, never: false, suspended: undefined }[versioning ?? 'suspended'],
        keepsLast: rotation.lastGoodDays > 0,
      });
      return {
        checked_at: formatTime(nowMs),
        rules_from: from,
        ...(prices.stored_per_gb_month === undefined
          ? {}
          : { currency: prices.currency, prices: prices.as_of }),
        ...forecast,
        vms: forecast.vms.map((one) => {
          const name = newest.get(`${one.vm.pool}/${one.vm.uuid}`)?.vm.name;
          return name === undefined ? one : { ...one, vm: { ...one.vm, name } };
        }),
      };
    },
  };
}

/** Not among the rights of older policies, nor known to every store: then the rules alone count. */
async function ifAllowed<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (isBackupError(error, 'store_credentials', 'store_refused')) return undefined;
    throw error;
  }
}
