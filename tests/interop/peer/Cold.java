import java.io.File;
import java.lang.reflect.Method;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.jackrabbit.oak.segment.file.FileStore;
import org.apache.jackrabbit.oak.segment.standby.client.StandbyClientSync;
import org.apache.jackrabbit.oak.segment.standby.server.StandbyServerSync;

/**
 * Oak's own cold standby: the primary that serves a store, and the standby that follows one.
 *
 * <p>Options of both: {@code secure}; of releases that have them {@code key}, {@code chain}, {@code
 * password}, {@code validate} (of the primary) and {@code subject}. Of {@code primary STORE PORT}:
 * {@code ranges}, {@code chunk} (bytes of a piece of a binary). Of {@code standby STORE HOST PORT}:
 * {@code timeout} in ms, {@code clean=false}. Each standby has a spool folder of its own: those that
 * share one, as all on a machine do by default, write the same binary into the same file.
 */
final class Cold {
  private static final String CLIENT =
      "org.apache.jackrabbit.oak.segment.standby.client.StandbyClientSync";

  private Cold() {}

  static OakPeer.Served primary(OakStore store, OakPeer.Words words) throws Exception {
    StandbyServerSync.Builder builder =
        StandbyServerSync.builder()
            .withPort(Integer.parseInt(words.get(1)))
            .withFileStore(store.files)
            .withBlobChunkSize(words.number("chunk", 1 << 20))
            .withSecureConnection(words.isTrue("secure"));
    String ranges = words.option("ranges");
    builder.withAllowedClientIPRanges(ranges == null ? new String[0] : ranges.split(","));
    secure(builder, words);
    if (words.option("validate") != null) {
      with(builder, "SSLClientValidation", boolean.class, words.isTrue("validate"));
    }
    return new Primary(builder.build());
  }

  private static final class Primary implements OakPeer.Served {
    private final StandbyServerSync server;

    Primary(StandbyServerSync server) {
      this.server = server;
      server.start();
      if (!server.isRunning()) {
        throw new IllegalStateException("the primary does not run; is its port taken?");
      }
    }

    @Override
    public Map<String, Object> serve(String verb, OakPeer.Words words) {
      return Collections.singletonMap("status", server.getStatus());
    }

    @Override
    public void close() {
      server.close();
    }
  }

  static OakPeer.Served standby(OakStore store, OakPeer.Words words) throws Exception {
    String host = words.get(1);
    int port = Integer.parseInt(words.get(2));
    boolean clean = !"false".equals(words.option("clean"));
    int timeout = words.number("timeout", 20000);
    File spool = store.spool();
    Class<?> builders = builderOfClients();
    if (builders == null) { // before 1.24 or so
      return new Standby(
          StandbyClientSync.class
              .getConstructor(
                  String.class,
                  int.class,
                  FileStore.class,
                  boolean.class,
                  int.class,
                  boolean.class,
                  File.class)
              .newInstance(host, port, store.files, words.isTrue("secure"), timeout, clean, spool));
    }
    Object builder = StandbyClientSync.class.getMethod("builder").invoke(null);
    with(builder, "Host", String.class, host);
    with(builder, "Port", int.class, port);
    with(builder, "FileStore", FileStore.class, store.files);
    with(builder, "SecureConnection", boolean.class, words.isTrue("secure"));
    with(builder, "ReadTimeoutMs", int.class, timeout);
    with(builder, "AutoClean", boolean.class, clean);
    with(builder, "SpoolFolder", File.class, spool);
    secure(builder, words);
    return new Standby((StandbyClientSync) builders.getMethod("build").invoke(builder));
  }

  private static Class<?> builderOfClients() {
    try {
      return Class.forName(CLIENT + "$Builder");
    } catch (ClassNotFoundException old) {
      return null;
    }
  }

  private static final class Standby implements OakPeer.Served {
    private final StandbyClientSync client;

    Standby(StandbyClientSync client) {
      this.client = client;
    }

    /** {@code sync}: one run of Oak's, whose failures Oak only counts. */
    @Override
    public Map<String, Object> serve(String verb, OakPeer.Words words) {
      if (verb.equals("sync")) {
        client.run();
      }
      Map<String, Object> told = new LinkedHashMap<>();
      told.put("failed", client.getFailedRequests());
      told.put("success", client.getSecondsSinceLastSuccess());
      told.put("status", client.getStatus());
      return told;
    }

    @Override
    public void close() {
      client.close();
    }
  }

  /** The options of TLS, by reflection: Oak 1.22 has none of them. */
  private static void secure(Object builder, OakPeer.Words words) throws Exception {
    String[][] known = {
      {"key", "SSLKeyFile"},
      {"password", "SSLKeyPassword"},
      {"chain", "SSLChainFile"},
      {"subject", "SSLSubjectPattern"}
    };
    for (String[] each : known) {
      if (words.option(each[0]) != null) {
        with(builder, each[1], String.class, words.option(each[0]));
      }
    }
  }

  private static void with(Object builder, String name, Class<?> type, Object value)
      throws Exception {
    Method method = builder.getClass().getMethod("with" + name, type);
    method.invoke(builder, value);
  }
}
