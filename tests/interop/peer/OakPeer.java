import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UnsupportedEncodingException;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Real Oak behind lines of text: one process serves many stores, primaries and standbys.
 *
 * <p>A request is one line of words with one blank between them, each percent-encoded:
 *
 * <pre>NUMBER VERB OBJECT WORD...</pre>
 *
 * <p>OBJECT is a name of the asker's choice. Requests on one object are carried out in their order,
 * those on different objects at the same time, so one may wait for a lock while others go on. The
 * answer is one line, with the same number and any number of results, or what went wrong:
 *
 * <pre>NUMBER ok KEY=VALUE...
 *NUMBER failed MESSAGE</pre>
 *
 * <p>At the end of the input everything is closed as a service closes it, and the process ends with
 * 0. What Oak logs goes to the standard error.
 */
public final class OakPeer {
  /** Something with a name that requests work on, and that is closed at the end. */
  interface Served {
    Map<String, Object> serve(String verb, Words words) throws Exception;

    void close() throws Exception;
  }

  /** The words of a request behind its object: plain ones in order, and KEY=VALUE ones by key. */
  static final class Words {
    private final List<String> plain = new ArrayList<>();
    private final Map<String, String> options = new HashMap<>();

    Words(List<String> words, boolean withOptions) {
      for (String word : words) {
        int sign = word.indexOf('=');
        if (withOptions && sign > 0) {
          options.put(word.substring(0, sign), word.substring(sign + 1));
        } else {
          plain.add(word);
        }
      }
    }

    List<String> all() {
      return plain;
    }

    String get(int index) {
      return plain.get(index);
    }

    int size() {
      return plain.size();
    }

    String option(String key) {
      return options.get(key);
    }

    int number(String key, int otherwise) {
      return options.containsKey(key) ? Integer.parseInt(options.get(key)) : otherwise;
    }

    boolean isTrue(String key) {
      return "true".equalsIgnoreCase(options.get(key));
    }
  }

  private static final List<String> RAW = Arrays.asList("commit"); // their words are no options

  private final PrintStream out;
  private final Map<String, Served> objects = new ConcurrentHashMap<>();
  private final Map<String, ExecutorService> queues = new LinkedHashMap<>();

  private OakPeer(PrintStream out) {
    this.out = out;
  }

  public static void main(String[] args) throws Exception {
    PrintStream out = new PrintStream(System.out, true, "UTF-8");
    System.setOut(System.err); // nobody but the answers writes there
    OakPeer peer = new OakPeer(out);
    BufferedReader in =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    out.println("0 ok");
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      peer.request(line);
    }
    peer.end();
    System.exit(0);
  }

  /** Puts one request into the queue of its object. */
  private void request(String line) throws IOException {
    List<String> words = new ArrayList<>();
    for (String word : line.split(" ")) {
      words.add(URLDecoder.decode(word, "UTF-8"));
    }
    String number = words.get(0);
    String verb = words.get(1);
    String name = words.get(2);
    Words rest = new Words(words.subList(3, words.size()), !RAW.contains(verb));
    queues.computeIfAbsent(name, OakPeer::queue).execute(() -> answer(number, verb, name, rest));
  }

  private static ExecutorService queue(String name) {
    return Executors.newSingleThreadExecutor(
        work -> {
          Thread thread = new Thread(null, work, "object " + name, 64L << 20);
          thread.setDaemon(true); // one that waits for a lock must not keep the process
          return thread;
        });
  }

  private void answer(String number, String verb, String name, Words words) {
    String said;
    try {
      StringBuilder line = new StringBuilder(number).append(" ok");
      for (Map.Entry<String, Object> each : carryOut(verb, name, words).entrySet()) {
        line.append(' ').append(each.getKey()).append('=').append(encoded(each.getValue()));
      }
      said = line.toString();
    } catch (Throwable problem) { // also an error of Oak's is an answer
      problem.printStackTrace();
      said = number + " failed " + encoded(problem);
    }
    out.println(said);
  }

  private static String encoded(Object value) {
    try {
      return URLEncoder.encode(String.valueOf(value), "UTF-8");
    } catch (UnsupportedEncodingException never) {
      throw new IllegalStateException(never);
    }
  }

  private Map<String, Object> carryOut(String verb, String name, Words words) throws Exception {
    switch (verb) {
      case "open":
        return made(name, new OakStore(words));
      case "primary":
        return made(name, Cold.primary((OakStore) found(words.get(0)), words));
      case "standby":
        return made(name, Cold.standby((OakStore) found(words.get(0)), words));
      case "close":
        found(name).close();
        objects.remove(name);
        return Collections.emptyMap();
      case "walk":
        return OakStore.walk(words);
      default:
        return found(name).serve(verb, words);
    }
  }

  private Map<String, Object> made(String name, Served object) throws Exception {
    objects.put(name, object);
    return object.serve("state", new Words(Collections.emptyList(), true));
  }

  private Served found(String name) {
    Served object = objects.get(name);
    if (object == null) {
      throw new IllegalArgumentException("nothing is called " + name);
    }
    return object;
  }

  /** Closes what serves and follows first, then the stores below. */
  private void end() throws Exception {
    for (boolean stores : new boolean[] {false, true}) {
      for (Served each : objects.values()) {
        if (each instanceof OakStore == stores) {
          each.close();
        }
      }
    }
  }
}
